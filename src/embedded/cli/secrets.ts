/**
 * Takes out of a text whatever could be a key, a certificate or a password, whoever wrote it there. Pure.
 *
 * Secrets are never asked for; this is for what may stand elsewhere: in a log, in an annotation, in a variable of a pod. It takes too much
 * rather than too little.
 */
interface Rule {
  readonly pattern: RegExp
  readonly left: string
}

const RULES: readonly Rule[] = [
  // PEM, also with its lines joined by \n in JSON, and cut off at the end of a log.
  {
    pattern: /-----BEGIN [A-Z0-9 ]+-----[\s\S]*?(?:-----END [A-Z0-9 ]+-----|$(?![\s\S]))/g,
    left: '[removed: PEM]',
  },
  // PEM in base64, as Secrets have it: "-----BEGIN" at each of the three places that it can have.
  {
    pattern:
      /(?:LS0tLS1CRUdJTi|0tLS0tQkVHSU4|tLS0tLUJFR0lO)[A-Za-z0-9+/=]*(?:(?:\s|\\n)+[A-Za-z0-9+/=]{40,})*(?:(?:\s|\\n)+[A-Za-z0-9+/]+={1,2})?/g,
    left: '[removed: base64 of PEM]',
  },
  { pattern: /\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g, left: '[removed: token]' },
  { pattern: /\b(Bearer|Basic) +[\w.~+/=-]{8,}/gi, left: '$1 [removed]' },
  {
    pattern:
      /((?:password|passwd|secret|token|api[-_]?key|private[-_]?key)["']?\s*[:=]\s*["']?)[^\s"',}]{4,}/gi,
    left: '$1[removed]',
  },
  { pattern: /:\/\/[^\s/:@]+:[^\s/@]+@/g, left: '://[removed]@' },
  // What is left of a key when its first lines were cut off.
  {
    pattern: /(?:^|(?<=[\s"']))(?:[A-Za-z0-9+/]{64}(?:\s|\\n)+)+[A-Za-z0-9+/]*={0,2}/g,
    left: '[removed: base64]',
  },
]

export function withoutSecrets(text: string): string {
  return RULES.reduce((rest, { pattern, left }) => rest.replace(pattern, left), text)
}

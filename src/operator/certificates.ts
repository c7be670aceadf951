/**
 * The Secrets of a pair: `<pair>-ca` {tls.crt, tls.key, ca.crt = all CAs to trust} and, for each filer, `<pair>-<filer>-tls`
 * {ca.crt, tls.crt, tls.key}. The operator's own certificate is made when needed and kept in memory only.
 */
import type { KubeApi, KubeObject } from '../edge/kube/api.ts'
import { SECRETS } from '../edge/kube/resources.ts'
import { authorityIsDue, filerUri, issue, leafIsDue, newAuthority, operatorUri } from '../edge/pki.ts'
import type { Authority, KeyPair } from '../edge/pki.ts'
import { secret } from './filer-pair/objects.ts'
import type { AcceptedPair } from './filer-pair/accepted.ts'
import type { Objects } from './filer-pair/observed.ts'
import { LABEL_PAIR_ID, namesOf } from './names.ts'

const DAY_MS = 86_400_000
const OWN_LIFE_MS = 30 * DAY_MS

export interface Due {
  readonly authority: boolean
  readonly filers: string[]
}

export class Certificates {
  readonly #own = new Map<
    string,
    { readonly authority: string; readonly madeMs: number; readonly pair: KeyPair }
  >()
  /** Checks cost signatures; the answer holds for a day. */
  readonly #checked = new Map<string, { readonly of: string; readonly due: Due }>()

  due(key: string, objects: Objects, pair: AcceptedPair, nowMs: number): Due {
    const names = namesOf(pair.name)
    const filers = pair.spec.filers.map((f) => f.name)
    const ca = ownSecret(objects, names.authority, pair)
    const secrets = filers.map((f) => ownSecret(objects, names.tls(f), pair))
    const of =
      [ca, ...secrets].map((s) => s?.metadata.resourceVersion ?? '-').join() + Math.floor(nowMs / DAY_MS)
    const known = this.#checked.get(key)
    if (known?.of === of) return known.due
    const authority = readAuthority(ca)
    const due: Due = { authority: authorityIsDue(authority?.certificate ?? '', nowMs), filers: [] }
    for (const [i, filer] of filers.entries()) {
      const files = readFiles(secrets[i])
      const uri = filerUri(pair.namespace, pair.name, filer)
      const bad =
        due.authority ||
        authority === undefined ||
        files['ca.crt'] !== authority.bundle ||
        leafIsDue(files['tls.crt'] ?? '', uri, authority, nowMs)
      if (bad) due.filers.push(filer)
    }
    this.#checked.set(key, { of, due })
    return due
  }

  async renew(
    api: KubeApi,
    manager: string,
    objects: Objects,
    pair: AcceptedPair,
    due: { readonly authority: boolean; readonly filers: readonly string[] },
    nowMs: number,
  ): Promise<void> {
    const names = namesOf(pair.name)
    let authority = readAuthority(ownSecret(objects, names.authority, pair))
    const put = async (
      name: string,
      filer: string | undefined,
      files: Record<string, string>,
    ): Promise<void> => {
      const { resource, object } = secret(pair, SECRETS, name, filer, files)
      await api.apply(resource, object, manager)
    }
    if (due.authority || authority === undefined) {
      authority = await newAuthority(
        `tandem ${pair.namespace}/${pair.name}`.slice(0, 64),
        nowMs,
        authority?.bundle,
      )
      await put(names.authority, undefined, {
        'tls.crt': authority.certificate,
        'tls.key': authority.key,
        'ca.crt': authority.bundle,
      })
    }
    for (const filer of due.filers) {
      const leaf = await issue(authority, filerUri(pair.namespace, pair.name, filer), nowMs)
      await put(names.tls(filer), filer, {
        'ca.crt': authority.bundle,
        'tls.crt': leaf.certificate,
        'tls.key': leaf.key,
      })
    }
  }

  /** What the operator shows to the filers of the pair; undefined while there is no CA. */
  async own(
    key: string,
    objects: Objects,
    pair: AcceptedPair,
    nowMs: number,
  ): Promise<{ ca: string; cert: string; key: string } | undefined> {
    const authority = readAuthority(ownSecret(objects, namesOf(pair.name).authority, pair))
    if (authority === undefined) return undefined
    let own = this.#own.get(key)
    if (own?.authority !== authority.certificate || nowMs - own.madeMs > OWN_LIFE_MS) {
      const made = await issue(authority, operatorUri(pair.namespace), nowMs)
      own = { authority: authority.certificate, madeMs: nowMs, pair: made }
      this.#own.set(key, own)
    }
    return { ca: authority.bundle, cert: own.pair.certificate, key: own.pair.key }
  }

  forget(key: string): void {
    this.#own.delete(key)
    this.#checked.delete(key)
  }
}

function ownSecret(objects: Objects, name: string, pair: AcceptedPair): KubeObject | undefined {
  const found = objects.get(SECRETS, name)
  return found?.metadata.labels?.[LABEL_PAIR_ID] === pair.id ? found : undefined
}

function readFiles(from: KubeObject | undefined): Record<string, string> {
  const data = (from?.['data'] ?? {}) as Record<string, string>
  return Object.fromEntries(
    Object.entries(data).map(([name, value]) => [name, Buffer.from(value, 'base64').toString('utf8')]),
  )
}

/** Every CA certificate of a pair, from its Secret: what others need to trust its filers. */
export function authorityBundle(from: KubeObject | undefined): string | undefined {
  return readAuthority(from)?.bundle
}

function readAuthority(from: KubeObject | undefined): Authority | undefined {
  const files = readFiles(from)
  const certificate = files['tls.crt']
  const key = files['tls.key']
  if (certificate === undefined || key === undefined) return undefined
  return { certificate, key, bundle: files['ca.crt'] ?? certificate }
}

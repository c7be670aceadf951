/**
 * Certificates of a pair. A CA of its own for each pair, a certificate for each filer and, never stored, one for the operator. Names
 * are URIs (`tandem://<namespace>/<pair>/<filer>`), for addresses of pods come and go; a peer compares the URI, not the host.
 *
 * Renewal is in place: a leaf is renewed at two thirds of its life, a CA early enough that no leaf outlives it, and `ca.crt` then
 * holds both the old and the new CA until the old one ends.
 */
import 'reflect-metadata'
import { X509Certificate, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0])

/** All PEM. */
export interface KeyPair {
  readonly certificate: string
  readonly key: string
}
export interface Authority extends KeyPair {
  /** Every CA certificate that peers shall trust, the current one first. */
  readonly bundle: string
}

const DAY_MS = 86_400_000
const CA_LIFE_MS = 3650 * DAY_MS
const LEAF_LIFE_MS = 90 * DAY_MS
/** Clocks of nodes differ. */
const BACKDATE_MS = 600_000

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const

export function filerUri(namespace: string, pair: string, filer: string): string {
  return `tandem://${namespace}/${pair}/${filer}`
}
export function operatorUri(namespace: string): string {
  return `tandem://${namespace}/operator`
}

/** A new CA; certificates of `previous` stay trusted while they last. */
export async function newAuthority(name: string, nowMs: number, previous?: string): Promise<Authority> {
  const keys = await generate()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: [{ CN: [name] }],
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + CA_LIFE_MS),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  const pem = text(certificate)
  const old = certificates(previous ?? '').filter((c) => c.notAfter.getTime() > nowMs)
  return { certificate: pem, key: await exportKey(keys), bundle: pem + old.map(text).join('') }
}

/** A certificate for `uri`, for both ends of a connection. */
export async function issue(authority: KeyPair, uri: string, nowMs: number): Promise<KeyPair> {
  const issuer = new x509.X509Certificate(authority.certificate)
  const signingKey = await webcrypto.subtle.importKey(
    'pkcs8',
    x509.PemConverter.decodeFirst(authority.key),
    algorithm,
    false,
    ['sign'],
  )
  const keys = await generate()
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    // Common names are limited to 64 characters, and nothing reads this one.
    subject: [{ CN: [uri.slice(-64)] }],
    issuer: issuer.subjectName,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(Math.min(nowMs + LEAF_LIFE_MS, issuer.notAfter.getTime())),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: uri }]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  })
  return { certificate: text(certificate), key: await exportKey(keys) }
}

/** Whether the certificate must be replaced: unreadable, of another name, of another CA, or past two thirds of its life. */
export function leafIsDue(
  leaf: string,
  uri: string,
  authority: Pick<KeyPair, 'certificate'>,
  nowMs: number,
): boolean {
  const certificate = parsed(leaf)
  const issuer = parsed(authority.certificate)
  if (certificate === undefined || issuer === undefined) return true
  if (past(certificate, nowMs, 2 / 3)) return true
  const names = certificate.subjectAltName?.split(', ') ?? []
  return !names.includes(`URI:${uri}`) || !certificate.verify(issuer.publicKey)
}

/** Whether a new CA must be made: unreadable, or so old that a leaf could outlive it. */
export function authorityIsDue(certificate: string, nowMs: number): boolean {
  const ca = parsed(certificate)
  return ca === undefined || ca.validToDate.getTime() - nowMs < 2 * LEAF_LIFE_MS
}

function past({ validFromDate, validToDate }: X509Certificate, nowMs: number, part: number): boolean {
  const from = validFromDate.getTime()
  return nowMs >= from + (validToDate.getTime() - from) * part
}

/** Node's own reader: certificates are looked at far more often than made. */
function parsed(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem)
  } catch {
    return undefined
  }
}

function certificates(pem: string): x509.X509Certificate[] {
  try {
    return x509.PemConverter.decode(pem).map((raw) => new x509.X509Certificate(raw))
  } catch {
    return []
  }
}

async function generate(): Promise<CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
}
type CryptoKeyPair = webcrypto.CryptoKeyPair

async function exportKey(keys: CryptoKeyPair): Promise<string> {
  const raw = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)
  return x509.PemConverter.encode(raw, 'PRIVATE KEY') + '\n'
}

function text(certificate: x509.X509Certificate): string {
  return certificate.toString('pem') + '\n'
}

/** Positive, 127 random bits. */
function serial(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16))
  bytes[0] = (bytes[0]! & 0x7f) | 0x40
  return Buffer.from(bytes).toString('hex')
}

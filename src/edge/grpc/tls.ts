/**
 * Identity on the wire: mutual TLS in which the name that counts is the certificate's URI (`tandem://…`), never the host,
 * for pods' addresses come and go. New connections use the certificate of the moment; running ones are left alone.
 *
 * Not here: making certificates (edge/pki.ts).
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createSecureContext } from 'node:tls'
import type { PeerCertificate, SecureContextOptions } from 'node:tls'
import { credentials, experimental } from '@grpc/grpc-js'
import type { ChannelCredentials, ServerCredentials } from '@grpc/grpc-js'

/** All PEM. */
export interface TlsMaterial {
  readonly ca: string
  readonly certificate: string
  readonly key: string
}

/** Where certificates come from; asked whenever a connection is made, and every so often by servers. */
export interface TlsSource {
  current(): TlsMaterial
}

/** A directory as a Secret is mounted: ca.crt, tls.crt, tls.key. What cannot be read or used leaves the last good one in force. */
export class TlsFiles implements TlsSource {
  readonly #directory: string
  #good: TlsMaterial | undefined

  constructor(directory: string) {
    this.#directory = directory
  }

  current(): TlsMaterial {
    const read = (name: string) => readFileSync(join(this.#directory, name), 'utf8')
    try {
      const fresh = { ca: read('ca.crt'), certificate: read('tls.crt'), key: read('tls.key') }
      if (this.#good !== undefined && sameMaterial(fresh, this.#good)) return this.#good
      // Caught between two files of one renewal, key and certificate do not match: the next call finds both.
      createSecureContext({ ca: fresh.ca, cert: fresh.certificate, key: fresh.key })
      this.#good = fresh
    } catch (error) {
      if (this.#good === undefined) throw error
    }
    return this.#good
  }
}

export function sameMaterial(a: TlsMaterial, b: TlsMaterial): boolean {
  return a.ca === b.ca && a.certificate === b.certificate && a.key === b.key
}

/** The tandem:// names in a certificate. Quoted entries, which hold what could deceive a reader of commas, are none. */
export function uriNames(certificate: Pick<PeerCertificate, 'subjectaltname'>): readonly string[] {
  return (certificate.subjectaltname ?? '')
    .split(', ')
    .filter((entry) => entry.startsWith('URI:tandem://'))
    .map((entry) => entry.slice('URI:'.length))
}

/** Does it come from one of the bundle's authorities, through no more than a few others? */
export function issuedBy(certificate: X509Certificate, bundle: string): boolean {
  let link = certificate
  for (let depth = 0; depth < CHAIN_MAX; depth++) {
    if (authorities(bundle).some((ca) => link.checkIssued(ca) && link.verify(ca.publicKey))) return true
    const { issuerCertificate } = link
    if (issuerCertificate === undefined || !link.verify(issuerCertificate.publicKey)) return false
    link = issuerCertificate
  }
  return false
}

const CHAIN_MAX = 4
let parsed: { readonly bundle: string; readonly list: readonly X509Certificate[] } | undefined

function authorities(bundle: string): readonly X509Certificate[] {
  if (parsed?.bundle !== bundle) {
    const texts = bundle.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
    parsed = { bundle, list: texts.map((text) => new X509Certificate(text)) }
  }
  return parsed.list
}

/** As node:tls takes it. */
export function contextOptions({ ca, certificate, key }: TlsMaterial): SecureContextOptions {
  return { ca, cert: certificate, key }
}

/** Accepts a server by the names in its certificate alone. */
export function expecting(allowed: (uri: string) => boolean) {
  return (_host: string, presented: PeerCertificate): Error | undefined => {
    const names = uriNames(presented)
    if (names.some(allowed)) return undefined
    const message = `server's certificate names ${names.join(', ') || 'nobody'}, who is not expected here`
    return Object.assign(new Error(message), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
  }
}

/** Whether a connection failed for a certificate, the own one (an alert of the other end) or the other's. */
export function isCertificateError(error: Error): boolean {
  const { code = '' } = error as NodeJS.ErrnoException
  return /^(CERT_|ERR_TLS_CERT|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|ERR_SSL_.*(ALERT|CERT))/.test(code)
}

/** For a connection of grpc-js to be made now, to a server that `allowed` names. */
export function clientCredentials(source: TlsSource, allowed: (uri: string) => boolean): ChannelCredentials {
  const { ca, certificate, key } = source.current()
  return credentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(certificate), {
    checkServerIdentity: expecting(allowed),
  })
}

/** Asks a source for new material every `refreshMs`, and tells of it. */
export function onRenewal(source: TlsSource, refreshMs: number, renewed: (fresh: TlsMaterial) => void) {
  let known = source.current()
  const timer = setInterval(() => {
    const fresh = source.current()
    if (sameMaterial(fresh, known)) return
    known = fresh
    renewed(fresh)
  }, refreshMs)
  timer.unref()
  return { stop: (): void => clearInterval(timer) }
}

/** For a server of grpc-js; looks for a new certificate every `refreshMs`. Only who has one of our CA gets as far as a call. */
export class RefreshedServerCredentials {
  readonly credentials: ServerCredentials
  readonly #renewal: { stop(): void }
  #material: TlsMaterial
  #identityListeners = new Set<experimental.IdentityCertificateUpdateListener>()
  #caListeners = new Set<experimental.CaCertificateUpdateListener>()

  constructor(source: TlsSource, refreshMs: number) {
    this.#material = source.current()
    // Told later than asked: grpc-js asks before it can take an answer.
    const provider: experimental.CertificateProvider = {
      addCaCertificateListener: (listener) => {
        this.#caListeners.add(listener)
        queueMicrotask(() => listener({ caCertificate: Buffer.from(this.#material.ca) }))
      },
      removeCaCertificateListener: (listener) => {
        this.#caListeners.delete(listener)
      },
      addIdentityCertificateListener: (listener) => {
        this.#identityListeners.add(listener)
        queueMicrotask(() => listener(this.#identity()))
      },
      removeIdentityCertificateListener: (listener) => {
        this.#identityListeners.delete(listener)
      },
    }
    this.credentials = experimental.createCertificateProviderServerCredentials(provider, provider, true)
    this.#renewal = onRenewal(source, refreshMs, (fresh) => {
      this.#material = fresh
      for (const listener of this.#caListeners) listener({ caCertificate: Buffer.from(fresh.ca) })
      for (const listener of this.#identityListeners) listener(this.#identity())
    })
  }

  stop(): void {
    this.#renewal.stop()
  }

  #identity(): experimental.IdentityCertificateUpdate {
    return {
      certificate: Buffer.from(this.#material.certificate),
      privateKey: Buffer.from(this.#material.key),
    }
  }
}

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import { describe, expect, test } from '@jest/globals'
import { authorityIsDue, filerUri, issue, leafIsDue, newAuthority, operatorUri } from './pki.ts'

const DAY_MS = 86_400_000
const now = Date.now()
const uri = filerUri('ns', 'east', 'a')

describe('certificates', () => {
  test('carry both ends of a connection, and name the peer by URI', async () => {
    const ca = await newAuthority('east', now)
    const a = await issue(ca, uri, now)
    const operator = await issue(ca, operatorUri('ns'), now)
    const server = createServer({
      cert: a.certificate,
      key: a.key,
      ca: ca.bundle,
      requestCert: true,
      rejectUnauthorized: true,
    })
    const peer = new Promise<string | undefined>((resolve) =>
      server.once('secureConnection', (socket: TLSSocket) =>
        resolve(socket.getPeerCertificate().subjectaltname),
      ),
    )
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = connect({
      port: (server.address() as AddressInfo).port,
      host: '127.0.0.1',
      cert: operator.certificate,
      key: operator.key,
      ca: ca.bundle,
      checkServerIdentity: (_, certificate) =>
        certificate.subjectaltname === `URI:${uri}`
          ? undefined
          : new Error(String(certificate.subjectaltname)),
    })
    await once(client, 'secureConnect')
    expect(await peer).toBe('URI:tandem://ns/operator')
    client.destroy()
    server.close()
  })

  test('are renewed in time, for another name, and by another CA', async () => {
    const ca = await newAuthority('east', now)
    const leaf = await issue(ca, uri, now)
    expect(leafIsDue(leaf.certificate, uri, ca, now)).toBe(false)
    expect(leafIsDue(leaf.certificate, uri, ca, now + 61 * DAY_MS)).toBe(true)
    expect(leafIsDue(leaf.certificate, filerUri('ns', 'east', 'b'), ca, now)).toBe(true)
    expect(leafIsDue('nonsense', uri, ca, now)).toBe(true)
    expect(leafIsDue(leaf.certificate, uri, await newAuthority('east', now), now)).toBe(true)
  })

  test('a new CA leaves the old one trusted while it lasts', async () => {
    const old = await newAuthority('east', now)
    expect(authorityIsDue(old.certificate, now)).toBe(false)
    const laterMs = now + 3500 * DAY_MS
    expect(authorityIsDue(old.certificate, laterMs)).toBe(true)
    const next = await newAuthority('east', laterMs, old.bundle)
    expect(next.bundle).toBe(next.certificate + old.certificate)
    const last = await newAuthority('east', laterMs + 200 * DAY_MS, next.bundle)
    expect(last.bundle).toBe(last.certificate + next.certificate)
  })
})

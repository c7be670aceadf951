import { beforeAll, describe, expect, test } from '@jest/globals'
import { filerUri, issue, newAuthority, operatorUri } from '../pki.ts'
import type { Authority } from '../pki.ts'
import { createAdminClient, createAdminServer } from './admin.ts'
import type { AdminService } from './admin.ts'
import type { TlsSource } from './tls.ts'

let authority: Authority
beforeAll(async () => {
  authority = await newAuthority('pair p', Date.now())
})

async function source(uri: string): Promise<TlsSource> {
  const { certificate, key } = await issue(authority, uri, Date.now())
  return { current: () => ({ ca: authority.bundle, certificate, key }) }
}

const operator = operatorUri('ns')
const filer = filerUri('ns', 'p', 'a')

async function serve(service: Partial<AdminService>) {
  const none: AdminService = {
    apply: () => Promise.reject(new Error('not expected')),
    status: () => '{}',
    watch: () => () => undefined,
    takeover: () => Promise.reject(new Error('not expected')),
    giveback: () => Promise.reject(new Error('not expected')),
  }
  return createAdminServer({
    listen: '127.0.0.1:0',
    tls: await source(filer),
    allowed: (uri) => uri === operator,
    service: { ...none, ...service },
    log: () => undefined,
  })
}

describe('administration over gRPC', () => {
  test('the operator applies, watches and hears errors in words', async () => {
    let tell: (status: string) => void = () => undefined
    let ended = 0
    const server = await serve({
      apply: (json, caller) => Promise.resolve(json === '{"a":1}' && caller === operator ? 7 : 0),
      status: () => 'first',
      watch: (listener) => {
        tell = listener
        return () => {
          ended++
        }
      },
      takeover: () => Promise.reject(new Error('not mirrored')),
    })
    const client = createAdminClient({
      address: server.address,
      tls: await source(operator),
      serverUri: (uri) => uri === filer,
    })
    expect(await client.apply('{"a":1}')).toBe(7)
    await expect(client.takeover('a', 1)).rejects.toThrow('not mirrored')
    const seen: string[] = []
    const stop = new AbortController()
    await client.watch((status) => {
      seen.push(status)
      if (status === 'first') tell('second')
      else stop.abort()
    }, stop.signal)
    expect(seen).toEqual(['first', 'second'])
    while (ended === 0) await new Promise((resolve) => setImmediate(resolve))
    client.close()
    await server.stop()
  })

  test('nobody else may call, and a server with another name is not spoken to', async () => {
    const server = await serve({})
    const stranger = createAdminClient({
      address: server.address,
      tls: await source(filerUri('ns', 'p', 'b')),
      serverUri: (uri) => uri === filer,
    })
    await expect(stranger.status()).rejects.toThrow('may administer')
    await expect(stranger.watch(() => undefined, new AbortController().signal)).rejects.toThrow(
      'may administer',
    )
    stranger.close()
    const careful = createAdminClient({
      address: server.address,
      tls: await source(operator),
      serverUri: () => false,
      timeoutMs: 2000,
    })
    await expect(careful.status()).rejects.toThrow('not expected here')
    careful.close()
    await server.stop()
  })
})

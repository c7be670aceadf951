/** The operator's client and a filer's administration service, over real gRPC and mutual TLS. */
import { afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import type { DesiredState, FilerStatus, SnapshotRequest } from '../api/v1alpha1/filer-config.ts'
import { AdminServer } from '../edge/filer/admin-server.ts'
import type { Administered } from '../edge/filer/admin-server.ts'
import type { TlsMaterial, TlsSource } from '../edge/grpc/tls.ts'
import { filerUri, issue, newAuthority, operatorUri } from '../edge/pki.ts'
import type { Authority } from '../edge/pki.ts'
import type { AdminClient } from './admin-client.ts'
import { connectAdmin } from './admin-grpc.ts'
import { wellStatus } from './testing/fake-filers.ts'

const operator = operatorUri('ns')
const filer = filerUri('ns', 'p', 'a')
const desired: DesiredState = {
  generation: 7,
  volumes: [],
  takeover: { mode: 'Automatic', giveback: 'Automatic', givebackDelayMs: 1, givebackEpoch: 0 },
}

let authority: Authority
let stranger: Authority
beforeAll(async () => {
  authority = await newAuthority('pair p', Date.now())
  stranger = await newAuthority('pair q', Date.now())
})

const opened: { close(): void }[] = []
afterEach(() => {
  for (const one of opened.splice(0)) one.close()
})

async function material(uri: string, from = authority): Promise<TlsMaterial> {
  const { certificate, key } = await issue(from, uri, Date.now())
  return { ca: authority.bundle, certificate, key }
}

async function serve(administered: Partial<Administered>): Promise<string> {
  const unexpected = (): Promise<never> => Promise.reject(new Error('not expected'))
  const all: Administered = {
    apply: unexpected,
    status: () => wellStatus('a'),
    takeover: unexpected,
    giveback: unexpected,
    snapshot: unexpected,
    ...administered,
  }
  const own = await material(filer)
  const source: TlsSource = { current: () => own }
  const server = new AdminServer(all, source, [operator, filerUri('ns', 'p', 'b')], () => undefined)
  opened.push(server)
  return `127.0.0.1:${await server.listen(0, '127.0.0.1')}`
}

async function connect(
  address: string,
  { as = operator, expects = filer, from = authority } = {},
): Promise<AdminClient> {
  const { ca, certificate, key } = await material(as, from)
  const client = connectAdmin({ address, uri: expects, tls: { ca, cert: certificate, key } })
  opened.push(client)
  return client
}

describe('administration over gRPC', () => {
  test('what is wanted arrives whole; errors arrive in words', async () => {
    const got: DesiredState[] = []
    const address = await serve({
      apply: (state) => {
        if (state.generation > 7) return Promise.reject(new Error('the aggregate is full'))
        got.push(state)
        return Promise.resolve(state.generation)
      },
    })
    const client = await connect(address)
    expect(await client.apply(desired)).toBe(7)
    expect(got).toEqual([desired])
    await expect(client.apply({ ...desired, generation: 8 })).rejects.toThrow('the aggregate is full')
  })

  test('an order about a snapshot is answered, accepted or not', async () => {
    const got: SnapshotRequest[] = []
    const address = await serve({
      snapshot: (request) => {
        got.push(request)
        return Promise.resolve(
          request.op === 'Create'
            ? { accepted: true, reason: '', message: '' }
            : { accepted: false, reason: 'NoSuchSnapshot', message: 'there is no snapshot s' },
        )
      },
    })
    const client = await connect(address)
    const request: SnapshotRequest = { volumeId: 'v', op: 'Create', snapshot: 's', requestId: '1' }
    expect(await client.snapshot(request)).toEqual({ accepted: true, reason: '', message: '' })
    expect(await client.snapshot({ ...request, op: 'Delete' })).toEqual({
      accepted: false,
      reason: 'NoSuchSnapshot',
      message: 'there is no snapshot s',
    })
    expect(got[0]).toEqual(request)
  })

  test('the status is told now and when a state in it changes, until nobody listens', async () => {
    let status = wellStatus('a')
    const client = await connect(await serve({ status: () => status }))
    const seen: FilerStatus[] = []
    const stop = new AbortController()
    await client.watch((told) => {
      seen.push(told)
      if (told.incarnation === 2) stop.abort()
      else status = { ...status, incarnation: 2 }
    }, stop.signal)
    expect(seen).toEqual([wellStatus('a'), { ...wellStatus('a'), incarnation: 2 }])
  })

  test('a caller of the pair’s CA who is not expected is refused every call', async () => {
    const client = await connect(await serve({}), { as: filerUri('ns', 'other', 'a') })
    const refusal = 'not the operator, nor a filer of this pair'
    await expect(client.apply(desired)).rejects.toThrow(refusal)
    await expect(client.watch(() => undefined, new AbortController().signal)).rejects.toThrow(refusal)
  })

  test('a caller of another CA does not get as far as a call', async () => {
    const client = await connect(await serve({}), { from: stranger })
    await expect(client.apply(desired)).rejects.toThrow('UNAVAILABLE')
  })

  test('a server with another name is not spoken to', async () => {
    const client = await connect(await serve({ apply: () => Promise.resolve(7) }), {
      expects: filerUri('ns', 'p', 'b'),
    })
    await expect(client.apply(desired)).rejects.toThrow('not expected here')
  })
})

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import type { Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kinds } from '../../api/v1alpha1/kinds.ts'
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeObject, WatchEvent } from '../../edge/kube/api.ts'
import { KubeClient } from '../../edge/kube/client.ts'
import { FILER_PAIRS, LEASES, PODS } from '../../edge/kube/resources.ts'
import { parsePath, storeServer } from './server.ts'
import { Store } from './store.ts'

let folder: string
let socketPath: string
let store: Store
let server: Server
let api: KubeClient

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tandem-server-'))
  socketPath = join(folder, 's')
  store = await Store.open(
    folder,
    kinds,
    (error) => {
      throw error
    },
    { historyCapacity: 20 },
  )
  server = storeServer(store, () => undefined)
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  api = new KubeClient({ server: `unix:${socketPath}` }, { fieldManager: 'test' })
})
afterAll(async () => {
  api.close()
  server.close()
  server.closeAllConnections()
  await store.close()
  rmSync(folder, { recursive: true })
})

function lease(name: string, spec: Record<string, unknown> = {}): KubeObject {
  return { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name, namespace: 'n' }, spec }
}

function raw(
  method: string,
  path: string,
  contentType?: string,
  body = '',
): Promise<{ code: number; body: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const headers = contentType === undefined ? {} : { 'content-type': contentType }
    const call = request({ socketPath, method, path, headers, agent: false }, (response) => {
      let text = ''
      response.on('data', (chunk: Buffer) => (text += chunk.toString()))
      response.on('end', () =>
        resolve({ code: response.statusCode ?? 0, body: JSON.parse(text) as Record<string, unknown> }),
      )
    })
    call.once('error', reject)
    call.end(body)
  })
}

describe('through the client that filers and operator use', () => {
  test('compare-and-swap: of two writers with the same version one wins, and the other is told Conflict', async () => {
    const made = await api.create(LEASES, lease('cas'))
    const results = await Promise.allSettled(
      ['a', 'b'].map((holderIdentity) => api.update(LEASES, { ...made, spec: { holderIdentity } })),
    )
    expect(results.map((result) => result.status).sort()).toEqual(['fulfilled', 'rejected'])
    const lost = results.find((result) => result.status === 'rejected')!
    expect(lost.reason).toMatchObject({ code: 409, reason: 'Conflict' })
    await expect(api.create(LEASES, lease('cas'))).rejects.toMatchObject({
      code: 409,
      reason: 'AlreadyExists',
    })
    await expect(api.get(LEASES, 'n', 'none')).rejects.toMatchObject({ code: 404, reason: 'NotFound' })
  })

  test('a watch goes on from the version of a list, and misses nothing in between', async () => {
    const { resourceVersion } = await api.list(LEASES, { namespace: 'n' })
    await api.create(LEASES, lease('watched'))
    const events: WatchEvent[] = []
    const stop = new AbortController()
    for await (const event of api.watch(LEASES, resourceVersion, { namespace: 'n', signal: stop.signal })) {
      events.push(event)
      if (events.length === 1) await api.mergePatch(LEASES, 'n', 'watched', { spec: { x: 1 } })
      if (events.length === 2) await api.delete(LEASES, 'n', 'watched')
      if (events.length === 3) stop.abort()
    }
    expect(events.map((event) => [event.type, event.object.metadata.name])).toEqual([
      ['ADDED', 'watched'],
      ['MODIFIED', 'watched'],
      ['DELETED', 'watched'],
    ])
  })

  test('a watch from a version that is forgotten is Expired', async () => {
    await api.create(LEASES, lease('busy'))
    for (let i = 0; i < 60; i++) await api.mergePatch(LEASES, 'n', 'busy', { spec: { i } })
    const watch = async (): Promise<void> => {
      for await (const _ of api.watch(LEASES, '1', {})) return
    }
    await expect(watch()).rejects.toMatchObject({ code: 410, reason: 'Expired' })
  })

  test('a watch ends at its time with a bookmark of where it was', async () => {
    const { resourceVersion } = await api.list(PODS)
    const events: WatchEvent[] = []
    for await (const event of api.watch(PODS, resourceVersion, { timeoutSeconds: 1 })) events.push(event)
    expect(events.map((event) => event.type)).toEqual(['BOOKMARK'])
    expect(Number(events[0]!.object.metadata.resourceVersion)).toBeGreaterThanOrEqual(Number(resourceVersion))
  })

  test('server-side apply and the status subresource by their own managers', async () => {
    const pair: KubeObject = {
      apiVersion: 'tandem.storage/v1alpha1',
      kind: 'FilerPair',
      metadata: { name: 'east', namespace: 'n' },
      spec: { aggregates: [{ name: 'x', filer: 'a', deviceSets: [{ name: 'd', size: '1Gi' }] }] },
    }
    await api.apply(FILER_PAIRS, pair, 'person')
    await api.apply(FILER_PAIRS, { ...pair, spec: undefined, status: { epoch: 3 } }, 'operator', 'status')
    const again = await api.apply(FILER_PAIRS, pair, 'person')
    expect(again['status']).toEqual({ epoch: 3 })
    const wrong = { ...pair, spec: { ...(pair['spec'] as object), cashSize: '1Gi' } }
    await expect(api.apply(FILER_PAIRS, wrong, 'person')).rejects.toThrow(/cashSize.*cacheSize/)
    await expect(api.apply(FILER_PAIRS, wrong, 'person')).rejects.toBeInstanceOf(KubeError)
  })
})

describe('the protocol', () => {
  test('what is not there, not allowed or not understood is answered as a Status', async () => {
    expect(await raw('GET', '/apis/no.such/v1/things')).toMatchObject({
      code: 404,
      body: { kind: 'Status', reason: 'NotFound' },
    })
    expect(await raw('PUT', '/api/v1/namespaces/n/pods')).toMatchObject({ code: 405 })
    expect(
      await raw('PATCH', '/api/v1/namespaces/n/pods/x', 'application/json-patch+json', '[]'),
    ).toMatchObject({ code: 415 })
    expect(await raw('POST', '/api/v1/namespaces/n/pods', 'application/json', '{"a":')).toMatchObject({
      code: 400,
    })
    expect(await raw('GET', '/api/v1/pods?labelSelector=a%3Db%3Dc')).toMatchObject({ code: 400 })
  })

  test('discovery names groups, versions and resources', async () => {
    const { body } = await raw('GET', '/apis')
    expect((body['groups'] as { name: string }[]).map((group) => group.name)).toContain('tandem.storage')
    const { body: group } = await raw('GET', '/apis/policy/v1')
    expect((group['resources'] as { name: string }[])[0]?.name).toBe('poddisruptionbudgets')
    expect(await raw('GET', '/apis/policy/v1beta1')).toMatchObject({ code: 404 })
  })

  test('a dry run changes nothing', async () => {
    const body = JSON.stringify(lease('dry'))
    expect(
      await raw(
        'POST',
        '/apis/coordination.k8s.io/v1/namespaces/n/leases?dryRun=All',
        'application/json',
        body,
      ),
    ).toMatchObject({ code: 201 })
    await expect(api.get(LEASES, 'n', 'dry')).rejects.toMatchObject({ code: 404 })
  })

  test.each([
    ['/api/v1/namespaces/n/pods/p/status', { namespace: 'n', name: 'p', subresource: 'status' }],
    ['/api/v1/pods', { namespace: undefined, name: undefined }],
    ['/api/v1/namespaces/n', { namespace: undefined, name: 'n', resource: { plural: 'namespaces' } }],
    [
      '/apis/tandem.storage/v1alpha1/namespaces/n/filerpairs',
      { namespace: 'n', resource: { kind: 'FilerPair' } },
    ],
  ])('%s', (path, target) => {
    expect(parsePath(path)).toMatchObject(target)
  })
  test.each([
    '/api/v1/namespaces/n/leases',
    '/api/v1/pods/p',
    '/api/v1/namespaces/n/pods/p/log',
    '/nonsense',
  ])('%s is nothing', (path) => {
    expect(parsePath(path)).toBeUndefined()
  })
})

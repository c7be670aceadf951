/** Client, informer and leader election against a small API server made of node:http. */
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from '@jest/globals'
import type { KubeObject } from './api.ts'
import { KubeError } from './api.ts'
import { KubeClient, podConnection, resourcePath } from './client.ts'
import { Informer } from './informer.ts'
import { kubeconfigConnection } from './kubeconfig.ts'
import { elect } from './leader.ts'
import { FILER_PAIRS, LEASES, NAMESPACES, PODS } from './resources.ts'

type Handler = (request: IncomingMessage, response: ServerResponse, url: URL) => void
const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup()
})

async function api(
  handler: Handler,
  options: ConstructorParameters<typeof KubeClient>[1] = {},
): Promise<KubeClient> {
  const server = createServer((request, response) =>
    handler(request, response, new URL(request.url!, 'http://x')),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const client = new KubeClient({ server: `http://127.0.0.1:${port}`, token: () => 'secret' }, options)
  cleanups.push(() => {
    client.close()
    server.closeAllConnections()
    server.close()
  })
  return client
}

const json = (response: ServerResponse, value: unknown, code = 200): void => {
  response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}
const pod = (name: string, resourceVersion: string): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'ns', resourceVersion },
})
const body = async (request: IncomingMessage): Promise<string> => {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text
}

describe('client', () => {
  test('paths', () => {
    expect(resourcePath(PODS, 'ns', 'a')).toBe('/api/v1/namespaces/ns/pods/a')
    expect(resourcePath(FILER_PAIRS)).toBe('/apis/tandem.storage/v1alpha1/filerpairs')
    expect(resourcePath(NAMESPACES, '', 'x')).toBe('/api/v1/namespaces/x')
  })

  test('apply says who applies, and forces; refusals are errors with code and reason', async () => {
    const seen: string[] = []
    const client = await api((request, response, url) => {
      seen.push(
        `${request.method} ${url.pathname}${url.search} ${request.headers['content-type']} ${request.headers.authorization}`,
      )
      if (url.pathname.endsWith('/missing'))
        return json(response, { kind: 'Status', code: 404, reason: 'NotFound', message: 'no such pod' }, 404)
      json(response, pod('a', '1'))
    })
    await client.apply(PODS, pod('a', '1'), 'me', 'status')
    expect(seen).toEqual([
      'PATCH /api/v1/namespaces/ns/pods/a/status?fieldManager=me&force=true application/apply-patch+yaml Bearer secret',
    ])
    await expect(client.get(PODS, 'ns', 'missing')).rejects.toMatchObject({
      name: 'KubeError',
      code: 404,
      reason: 'NotFound',
      message: 'no such pod',
    })
  })

  test('lists page by page', async () => {
    const client = await api((_, response, url) =>
      url.searchParams.get('continue') === null
        ? json(response, {
            metadata: { resourceVersion: '7', continue: 'more' },
            items: [{ metadata: { name: 'a' } }],
          })
        : json(response, { metadata: { resourceVersion: '7' }, items: [{ metadata: { name: 'b' } }] }),
    )
    const { items, resourceVersion } = await client.list(PODS)
    expect([items.map((i) => [i.kind, i.metadata.name]), resourceVersion]).toEqual([
      [
        ['Pod', 'a'],
        ['Pod', 'b'],
      ],
      '7',
    ])
  })

  test('a server that does not answer is Unreachable after the deadline', async () => {
    const client = await api(() => undefined, { timeoutMs: 50 })
    await expect(client.get(PODS, 'ns', 'a')).rejects.toMatchObject({ code: 0, reason: 'Unreachable' })
  })

  test('an answer that breaks off is Unreachable, not half a value', async () => {
    const client = await api((_, response) => {
      response.writeHead(200, { 'content-length': 1000 }).write('{"a":')
      response.destroy()
    })
    await expect(client.get(PODS, 'ns', 'a')).rejects.toBeInstanceOf(KubeError)
  })

  test('events of a watch come whole however they are cut, and an ERROR is thrown', async () => {
    const text = [
      JSON.stringify({ type: 'ADDED', object: pod('ä', '2') }),
      JSON.stringify({
        type: 'ERROR',
        object: { kind: 'Status', code: 410, reason: 'Expired', message: 'old' },
      }),
      '',
    ].join('\n')
    const bytes = Buffer.from(text)
    const client = await api((_, response) => {
      let at = 0
      const next = (): void => {
        if (at === bytes.length) return void response.end()
        response.write(bytes.subarray(at, ++at), next)
      }
      response.writeHead(200)
      next()
    })
    const seen: string[] = []
    const watch = async (): Promise<void> => {
      for await (const event of client.watch(PODS, '1', {})) seen.push(event.object.metadata.name)
    }
    await expect(watch()).rejects.toMatchObject({ code: 410, reason: 'Expired' })
    expect(seen).toEqual(['ä'])
  })
})

describe('informer', () => {
  test('lists, follows, and lists again when the server has forgotten; what went meanwhile is told', async () => {
    let lists = 0
    const watched: string[] = []
    const client = await api((_, response, url) => {
      if (url.searchParams.get('watch') === null) {
        lists++
        const items = lists === 1 ? [pod('a', '1'), pod('b', '1')] : [pod('b', '5')]
        return json(response, { metadata: { resourceVersion: String(lists * 10) }, items })
      }
      watched.push(url.searchParams.get('resourceVersion')!)
      response.writeHead(200)
      const say = (type: string, object: unknown): void =>
        void response.write(JSON.stringify({ type, object }) + '\n')
      if (watched.length === 1) {
        say('MODIFIED', pod('a', '11'))
        say('BOOKMARK', { metadata: { resourceVersion: '15' } })
        return void response.end()
      }
      if (watched.length === 2) {
        say('ERROR', { code: 410, reason: 'Expired', message: 'old' })
        return void response.end()
      }
    })
    const changes: string[] = []
    const done = Promise.withResolvers<void>()
    const informer = new Informer(client, PODS, {
      onChange: (now, before) => {
        changes.push(`${before?.metadata.resourceVersion ?? '-'}→${now?.metadata.resourceVersion ?? '-'}`)
        if (now === undefined) done.resolve()
      },
    })
    await informer.start()
    await done.promise
    expect(changes).toEqual(['-→1', '-→1', '1→11', '1→5', '11→-'])
    expect(watched.slice(0, 2)).toEqual(['10', '15'])
    expect([...informer.all()].map((o) => o.metadata.name)).toEqual(['b'])
    await informer.stop()
  })
})

describe('leader', () => {
  test('a candidate waits while the Lease changes, and leads when it does not', async () => {
    let lease: KubeObject | undefined
    let version = 0
    const client = await api((request, response) => {
      void body(request).then((text) => {
        if (request.method === 'GET')
          return lease === undefined
            ? json(response, { code: 404, reason: 'NotFound' }, 404)
            : json(response, lease)
        const sent = JSON.parse(text) as KubeObject
        if (lease !== undefined && sent.metadata.resourceVersion !== lease.metadata.resourceVersion)
          return json(response, { code: 409, reason: 'Conflict' }, 409)
        lease = { ...sent, metadata: { ...sent.metadata, resourceVersion: String(++version) } }
        json(response, lease)
      })
    })
    const times = { namespace: 'ns', name: 'l', durationMs: 300, renewDeadlineMs: 200, retryMs: 20 }
    const first = new AbortController()
    const second = new AbortController()
    const one = (await elect(client, { ...times, identity: 'one', signal: first.signal }))!
    let secondLeads = false
    const two = elect(client, { ...times, identity: 'two', signal: second.signal }).then((term) => {
      secondLeads = true
      return term!
    })
    const versions = new Set<string>()
    while (versions.size < 10) {
      versions.add(lease!.metadata.resourceVersion!)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    expect(secondLeads).toBe(false)
    // A leader that ends gives the Lease up.
    first.abort()
    await one.lost
    const term = await two
    expect((lease!['spec'] as { holderIdentity: string }).holderIdentity).toBe('two')
    // Somebody takes it by force: the term is over.
    lease = {
      ...lease!,
      metadata: { ...lease!.metadata, resourceVersion: 'x' },
      spec: { holderIdentity: 'three' },
    }
    await term.lost
    second.abort()
    expect(resourcePath(LEASES, 'ns', 'l')).toContain('/leases/l')
  })
})

describe('connections', () => {
  test('from a kubeconfig', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tandem-kubeconfig-'))
    cleanups.push(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'config')
    const base64 = (text: string): string => Buffer.from(text).toString('base64')
    writeFileSync(join(folder, 'client.key'), 'KEY')
    writeFileSync(
      path,
      JSON.stringify({
        'current-context': 'x',
        contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'mine' } }],
        clusters: [
          {
            name: 'c',
            cluster: { server: 'https://h:6443/prefix', 'certificate-authority-data': base64('CA') },
          },
        ],
        users: [
          {
            name: 'u',
            user: { 'client-certificate-data': base64('CERT'), 'client-key': 'client.key', token: 't' },
          },
        ],
      }),
    )
    const { connection, namespace } = await kubeconfigConnection(path)
    expect(namespace).toBe('mine')
    expect(connection.server).toBe('https://h:6443/prefix')
    expect([connection.tls?.ca, connection.tls?.cert, connection.tls?.key].map(String)).toEqual([
      'CA',
      'CERT',
      'KEY',
    ])
    expect(connection.token?.()).toBe('t')
  })

  test('in a pod, or none', () => {
    expect(podConnection({ TANDEM_KUBE: 'unix:/x' })).toEqual({ server: 'unix:/x' })
    expect(() => podConnection({})).toThrow('no Kubernetes API')
  })
})

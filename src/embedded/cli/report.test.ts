/** A report has what helps, and nothing that opens anything: real keys and certificates are put wherever they could stray to. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from '@jest/globals'
import type { KubeObject } from '../../edge/kube/api.ts'
import { KubeClient } from '../../edge/kube/client.ts'
import { newAuthority } from '../../edge/pki.ts'
import { gatherReport } from './report.ts'
import { clusterSources, tail } from './report-sources.ts'
import { withoutSecrets } from './secrets.ts'
import { tar } from './tar.ts'

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup()
})
function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'tandem-report.'))
  cleanups.push(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** Every stretch of a text that long enough to be of use. */
const pieces = (text: string): string[] =>
  text.split(/[^A-Za-z0-9+/=_.-]+/).filter((piece) => piece.length >= 40)

describe('texts', () => {
  test('lose keys and certificates in every form in which they get into texts', async () => {
    const { key, certificate } = await newAuthority('east', Date.now())
    for (const pem of [key, certificate]) {
      const base64 = Buffer.from(pem).toString('base64')
      const shifted = ['x', 'xy'].map((before) => Buffer.from(before + pem).toString('base64'))
      for (const [form, secrets] of [
        [`read:\n${pem}\nnext line`, pieces(pem)],
        [JSON.stringify({ time: 1, message: pem, next: 'line' }), pieces(pem)],
        // Cut off at either end.
        [`next line\n${pem.slice(0, -60)}`, pieces(pem).slice(0, -2)],
        [`${pem.slice(40)}\nnext line`, pieces(pem.slice(40)).filter((piece) => piece.length === 64)],
        [`tls.key: ${base64}\nnext line`, [base64.slice(0, 60), base64.slice(-60)]],
        ...shifted.map((text) => [`data: ${text}\nnext line`, [text.slice(40, 100)]] as const),
      ] as const) {
        const left = withoutSecrets(form)
        for (const secret of secrets) expect(left).not.toContain(secret)
        expect(left).toMatch(/removed/)
        expect(left).toContain('next')
      }
    }
  })

  test('lose tokens and passwords, and keep what is none', () => {
    const token = `eyJhbGciOiJSUzI1NiJ9.${'a'.repeat(30)}.${'b'.repeat(30)}`
    for (const text of [
      `authorization: Bearer ${token}`,
      `token=${token}`,
      `{"password": "${token}"}`,
      `https://me:${token}@host/`,
    ])
      expect(withoutSecrets(text)).not.toContain(token)
    const plain =
      'volumes: 3f2a9c1e-77aa-4b1e-9d7e-0123456789ab served, uid 64000, sha256 9f86d081884c7d659a2feaa0c55ad015 at 10.0.0.1:7400, secretName: east-a-tls'
    expect(withoutSecrets(plain)).toContain(
      'served, uid 64000, sha256 9f86d081884c7d659a2feaa0c55ad015 at 10.0.0.1:7400',
    )
  })
})

test('the archive is one that tar reads', () => {
  const path = join(folder(), 'x.tar')
  writeFileSync(
    path,
    tar(
      new Map([
        ['a/one.txt', 'eins\n'],
        ['a/b/two.txt', 'zwei, ümlaut\n'.repeat(100)],
      ]),
      1_700_000_000,
    ),
  )
  expect(execFileSync('tar', ['-tf', path], { encoding: 'utf8' })).toBe('a/one.txt\na/b/two.txt\n')
  expect(execFileSync('tar', ['-xOf', path, 'a/b/two.txt'], { encoding: 'utf8' })).toBe(
    'zwei, ümlaut\n'.repeat(100),
  )
})

test('of a log the last lines are read, whole ones', () => {
  const path = join(folder(), 'x.log')
  writeFileSync(path, Array.from({ length: 5000 }, (_, i) => `line ${i} ${'x'.repeat(90)}\n`).join(''))
  const lines = tail(path, 100).split('\n')
  expect(lines[0]).toMatch(/^line 4900 x+$/)
  expect(lines.slice(-2)).toEqual([expect.stringMatching(/^line 4999 x+$/), ''])
  writeFileSync(path, 'only\n')
  expect(tail(path, 100)).toBe('only\n')
  expect(readFileSync(path, 'utf8')).toBe('only\n')
})

test('a cluster is asked for everything but Secrets; what it refuses is said, the rest is there', async () => {
  const { key, certificate } = await newAuthority('east', Date.now())
  const asked: string[] = []
  const object = (apiVersion: string, kind: string, name: string, more: object = {}): KubeObject => ({
    apiVersion,
    kind,
    metadata: {
      name,
      namespace: 'shop',
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': key, note: certificate },
    },
    ...more,
  })
  const restarted = { status: { containerStatuses: [{ restartCount: 1 }] } }
  const answers: Record<string, unknown> = {
    '/version': { gitVersion: 'v1.30.1' },
    '/apis/tandem.storage/v1alpha1/namespaces/shop/filerpairs': [
      object('tandem.storage/v1alpha1', 'FilerPair', 'east', { spec: {}, status: { message: 'all well' } }),
      object('tandem.storage/v1alpha1', 'FilerPair', 'west', { spec: {} }),
    ],
    '/apis/tandem.storage/v1alpha1/namespaces/shop/filervolumes': [
      object('tandem.storage/v1alpha1', 'FilerVolume', 'home', { spec: { pairName: 'east' } }),
    ],
    '/api/v1/namespaces/shop/pods': [object('v1', 'Pod', 'east-a-0', restarted)],
    '/api/v1/namespaces/tandem-system/pods': [],
    '/api/v1/namespaces/shop/events': [object('v1', 'Event', 'east.1', { message: `made ${key}` })],
    '/api/v1/namespaces/shop/pods/east-a-0/log': `{"message":"up"}\n${certificate}{"message":"still up"}\n`,
    '/api/v1/namespaces/shop/pods/east-a-0:9400/proxy/metrics': 'tandem_side_serving{side="a"} 1\n',
  }
  const server = createServer((request, response) => {
    const { pathname, search } = new URL(request.url!, 'http://x')
    asked.push(pathname + search)
    const answer = answers[pathname]
    if (answer === undefined)
      return response.writeHead(403).end(JSON.stringify({ code: 403, message: 'may not' }))
    response.end(
      typeof answer === 'string'
        ? answer
        : JSON.stringify(
            Array.isArray(answer)
              ? { metadata: { resourceVersion: '1' }, items: answer as unknown[] }
              : answer,
          ),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const api = new KubeClient({ server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
  cleanups.push(() => {
    api.close()
    server.close()
    server.closeAllConnections()
  })
  const options = { namespace: 'shop', pair: 'east', versions: { tandem: '1' }, nowMs: 0 }
  const files = await gatherReport(api, clusterSources(api, 10, 'tandem-system'), options)

  const all = [...files.values()].join('\n')
  for (const secret of [...pieces(key), ...pieces(certificate)]) expect(all).not.toContain(secret)
  expect(asked.filter((path) => /secret/i.test(path))).toEqual([])
  expect([...files.keys()]).toEqual(
    expect.arrayContaining([
      'status.txt',
      'objects/FilerPair.yaml',
      'objects/FilerVolume.yaml',
      'objects/Pod.yaml',
      'events.yaml',
      'logs/east-a-0.log',
      'logs/east-a-0-previous.log',
      'metrics/east-a-0.txt',
      'versions.txt',
      'missing.txt',
    ]),
  )
  expect(files.get('logs/east-a-0.log')).toContain('still up')
  expect(files.get('versions.txt')).toContain('server: v1.30.1')
  expect(files.get('objects/FilerPair.yaml')).toContain('all well')
  expect(files.get('objects/FilerPair.yaml')).not.toContain('west')
  expect(files.get('missing.txt')).toContain('services: may not')
  expect(asked).toContain('/api/v1/namespaces/shop/pods/east-a-0/log?tailLines=10&previous=true')
  await expect(
    gatherReport(api, clusterSources(api, 10, 'tandem-system'), { ...options, pair: 'nord' }),
  ).rejects.toThrow('no pair nord in namespace shop')
})

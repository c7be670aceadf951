import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { KubeObject, Resource } from '../../edge/kube/api.ts'
import { CLAIMS, PODS, SECRETS, SERVICES, STATEFUL_SETS } from '../../edge/kube/resources.ts'
import { ADDRESS_ANNOTATION } from './services.ts'
import { control } from './control.ts'
import { MAIN, endLeftovers, exited, launcher, remembering } from './processes.ts'
import { lock, prepare, processStart, stateDir } from './state-dir.ts'
import { matchPod, up } from './up.ts'
import type { Up } from './up.ts'

const DUMMY = fileURLToPath(new URL('./testing/dummy-filer.ts', import.meta.url))

/** Polls: the conditions here are states of processes and files, which tell nobody when they change. */
async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadline = performance.now() + 20_000
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    if (performance.now() > deadline) throw new Error(`never: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

interface Answer {
  pod: string
  pid: number
  secret: string
  log: string
  devices: string[]
  addresses: Record<string, { listen: string; advertise: string }>
}

function ask(address: string): Promise<Answer | undefined> {
  return new Promise((resolve) => {
    const [host = '', port = ''] = address.split(':')
    let text = ''
    const socket = connect({ host, port: Number(port) })
    socket.on('data', (chunk) => (text += chunk.toString()))
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(text === '' ? undefined : (JSON.parse(text) as Answer)))
  })
}

function filerObjects(filer: string, partner: string): [Resource, KubeObject][] {
  const namespace = 'default'
  const name = `east-${filer}`
  const labels = { 'tandem.storage/pair': 'east', 'tandem.storage/filer': filer }
  const config = {
    namespace,
    pair: 'east',
    filer,
    partner,
    interconnects: [{ name: 'default' }, { name: 'ic1' }],
  }
  return [
    [
      CLAIMS,
      {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: `${name}-log`, namespace },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '64Mi' } } },
      },
    ],
    [
      SECRETS,
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: `${name}-tls`, namespace },
        stringData: { 'tls.crt': 'first' },
      },
    ],
    [
      SERVICES,
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name, namespace },
        spec: { selector: labels, ports: [{ port: 2049 }] },
      },
    ],
    [
      STATEFUL_SETS,
      {
        apiVersion: 'apps/v1',
        kind: 'StatefulSet',
        metadata: { name, namespace },
        spec: {
          replicas: 1,
          template: {
            metadata: { labels },
            spec: {
              terminationGracePeriodSeconds: 5,
              containers: [
                {
                  name: 'filer',
                  args: ['filer'],
                  env: [{ name: 'TANDEM_FILER_CONFIG', value: JSON.stringify(config) }],
                  volumeMounts: [
                    { name: 'log', mountPath: '/var/lib/tandem/log' },
                    { name: 'tls', mountPath: '/etc/tandem/tls' },
                  ],
                },
              ],
              volumes: [
                { name: 'log', persistentVolumeClaim: { claimName: `${name}-log` } },
                { name: 'tls', secret: { secretName: `${name}-tls` } },
              ],
            },
          },
        },
      },
    ],
  ]
}

describe('an instance with dummies for filers', () => {
  let folder: string
  let instance: Up
  const start = (): Promise<Up> =>
    up({
      state: join(folder, 'state'),
      relayed: true,
      log: () => undefined,
      operator: false,
      restartDelayMs: 50,
      launch: (dir) => {
        const real = launcher(dir.logs)
        const dummy = launcher(dir.logs, DUMMY)
        return (name, args, env) => (args[0] === 'filer' ? dummy : real)(name, args, env)
      },
    })
  const addressOf = (service: string): Promise<string> =>
    until(`service ${service}`, async () => {
      const object = await instance.api.get(SERVICES, 'default', service)
      return object.metadata.annotations?.[ADDRESS_ANNOTATION]
    })
  const ready = (pod: string): Promise<KubeObject> =>
    until(`${pod} ready`, async () => {
      const object = await instance.api.get(PODS, 'default', pod).catch(() => undefined)
      const status = object?.['status'] as { conditions?: { type: string; status: string }[] } | undefined
      return status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') === true
        ? object
        : undefined
    })
  const answered = (service: string, by: (answer: Answer) => boolean): Promise<Answer> =>
    until(`${service} answers`, async () => {
      const answer = await ask(await addressOf(service))
      return answer !== undefined && by(answer) ? answer : undefined
    })

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tandem-up-'))
    instance = await start()
    for (const [resource, object] of [...filerObjects('a', 'b'), ...filerObjects('b', 'a')])
      await instance.api.create(resource, object)
  }, 30_000)
  afterAll(async () => {
    await instance.stop()
    rmSync(folder, { recursive: true })
  }, 30_000)

  test('a StatefulSet becomes a pod with an address of its own and a process that finds its volumes and its secret', async () => {
    const [a, b] = [await ready('east-a-0'), await ready('east-b-0')]
    const ips = [a, b].map((pod) => (pod['status'] as { podIP: string }).podIP)
    expect(ips[0]).toMatch(/^127\.\d+\.\d+\.\d+$/)
    expect(new Set(ips).size).toBe(2)
    expect(a.metadata.labels).toMatchObject({ 'tandem.storage/filer': 'a' })
    const answer = await answered('east-a', () => true)
    expect(answer).toMatchObject({ pod: 'east-a-0', secret: 'first' })
    expect(answer.log).toBe(join(instance.dir.volumes, 'default', 'east-a-log'))
    const { default: first, ic1 } = answer.addresses
    expect(first!.listen).toBe(`${ips[0]!}:7400`)
    expect(new Set([first!.listen, first!.advertise, ic1!.listen, ic1!.advertise]).size).toBe(4)
    const claim = await instance.api.get(CLAIMS, 'default', 'east-a-log')
    expect(claim['status']).toMatchObject({ phase: 'Bound', capacity: { storage: '64Mi' } })
  })

  test('a connection goes to the filer that the selector names, from the moment it is written', async () => {
    await ready('east-b-0')
    await answered('east-a', (answer) => answer.pod === 'east-a-0')
    const selector = { 'tandem.storage/filer': 'b' }
    await instance.api.mergePatch(SERVICES, 'default', 'east-a', { spec: { selector } })
    await answered('east-a', (answer) => answer.pod === 'east-b-0')
    await instance.api.mergePatch(SERVICES, 'default', 'east-a', {
      spec: { selector: { 'tandem.storage/filer': 'a' } },
    })
    await answered('east-a', (answer) => answer.pod === 'east-a-0')
  })

  test('a process that does not run keeps no connection: it is closed, and none of it is left behind', async () => {
    const { pid } = await answered('east-a', (answer) => answer.pod === 'east-a-0')
    process.kill(pid, 'SIGSTOP')
    try {
      expect(await ask(await addressOf('east-a'))).toBeUndefined()
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    await answered('east-a', (answer) => answer.pid === pid)
  })

  test('a process that died is started again, unless it is held', async () => {
    const first = await answered('east-b', () => true)
    process.kill(first.pid, 'SIGKILL')
    const second = await answered('east-b', (answer) => answer.pid !== first.pid)
    await control(instance.dir, '/hold', { filer: 'east/b' })
    await control(instance.dir, '/kill', { filer: 'b', signal: 'SIGKILL' })
    await until(
      'b is down',
      () => instance.status().pods.find((pod) => pod.key.includes('east-b'))?.pid === undefined,
    )
    expect(await ask(await addressOf('east-b'))).toBeUndefined()
    const pod = await until('waiting', async () => {
      const object = await instance.api.get(PODS, 'default', 'east-b-0')
      const [container] = (
        object['status'] as { containerStatuses: { state: { waiting?: { reason: string } } }[] }
      ).containerStatuses
      return container?.state.waiting?.reason
    })
    expect(pod).toBe('Held')
    await control(instance.dir, '/release', { filer: 'east-b-0' })
    await answered('east-b', (answer) => answer.pid !== second.pid)
  })

  test('a deleted pod ends with its process, and a new one takes its place', async () => {
    const before = await ready('east-b-0')
    const { pid } = await answered('east-b', () => true)
    await instance.api.delete(PODS, 'default', 'east-b-0')
    const after = await until('a new pod', async () => {
      const object = await instance.api.get(PODS, 'default', 'east-b-0').catch(() => undefined)
      return object !== undefined && object.metadata.uid !== before.metadata.uid ? object : undefined
    })
    expect(after.metadata.uid).not.toBe(before.metadata.uid)
    expect(() => process.kill(pid, 0)).toThrow()
    await answered('east-b', (answer) => answer.pid !== pid)
  })

  test('a changed template waits until the pod is deleted; the next one has the new claim', async () => {
    const { pid } = await answered('east-b', (answer) => answer.devices.length === 0)
    const name = 'east-b-vol-archive-d-0'
    await instance.api.create(CLAIMS, {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name, namespace: 'default' },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '64Mi' } } },
    })
    const set = await instance.api.get(STATEFUL_SETS, 'default', 'east-b')
    const spec = structuredClone(set['spec']) as {
      template: {
        spec: {
          volumes: { name: string; persistentVolumeClaim?: { claimName: string } }[]
          containers: { volumeMounts: { name: string; mountPath: string }[] }[]
        }
      }
    }
    spec.template.spec.volumes.push({ name: 'dev', persistentVolumeClaim: { claimName: name } })
    spec.template.spec.containers[0]!.volumeMounts.push({
      name: 'dev',
      mountPath: '/var/lib/tandem/devices/vol-archive-d-0',
    })
    await instance.api.update(STATEFUL_SETS, { ...set, spec })
    await until('the claim is bound', async () => {
      const claim = await instance.api.get(CLAIMS, 'default', name)
      return (claim['status'] as { phase?: string } | undefined)?.phase === 'Bound'
    })
    expect((await answered('east-b', () => true)).pid).toBe(pid)
    await instance.api.delete(PODS, 'default', 'east-b-0')
    const { devices } = await answered('east-b', (answer) => answer.pid !== pid)
    expect(devices).toEqual(['vol-archive-d-0'])
    expect(existsSync(join(folder, 'state/volumes/default', name))).toBe(true)
  })

  test('a claim of an exported volume is bound, and nothing is made for it', async () => {
    await instance.api.create(CLAIMS, {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'files', namespace: 'default' },
      spec: {
        accessModes: ['ReadWriteMany'],
        storageClassName: '',
        volumeName: 'tandem-x',
        resources: { requests: { storage: '64Mi' } },
      },
    })
    const bound = (await until('the claim is bound', async () => {
      const { status } = (await instance.api.get(CLAIMS, 'default', 'files')) as {
        status?: { phase?: string }
      }
      return status?.phase === 'Bound' ? status : undefined
    })) as unknown
    expect(bound).toMatchObject({ accessModes: ['ReadWriteMany'], capacity: { storage: '64Mi' } })
    expect(existsSync(join(folder, 'state/volumes/default/files'))).toBe(false)
    await instance.api.delete(CLAIMS, 'default', 'files')
    await until('the claim is gone', () =>
      instance.api.get(CLAIMS, 'default', 'files').then(
        () => undefined,
        () => true,
      ),
    )
  })

  test('a secret that changes is rewritten under the running process', async () => {
    const { pid } = await answered('east-a', () => true)
    await instance.api.mergePatch(SECRETS, 'default', 'east-a-tls', {
      data: { 'tls.crt': Buffer.from('second').toString('base64') },
    })
    const answer = await answered('east-a', (candidate) => candidate.secret === 'second')
    expect(answer.pid).toBe(pid)
  })

  test('links can be cut by name, and what does not exist is told', async () => {
    await control(instance.dir, '/link', { pair: 'east', link: 'ic1', cutAll: true })
    expect(instance.status().links.find((link) => link.link === 'ic1')?.state).toMatchObject({
      cut: ['a', 'b'],
    })
    await control(instance.dir, '/link', { pair: 'east', link: 'ic1' })
    await expect(control(instance.dir, '/link', { pair: 'east', link: 'ic9' })).rejects.toThrow(
      /no interconnect ic9; it has default, ic1/,
    )
    await expect(control(instance.dir, '/link', { pair: 'west', link: 'ic1' })).rejects.toThrow(
      /no pair west/,
    )
  })

  test('after a restart everything is there again, at the same addresses', async () => {
    const [address, pod] = [await addressOf('east-a'), await ready('east-a-0')]
    await instance.stop()
    instance = await start()
    await answered('east-a', (answer) => answer.pod === 'east-a-0')
    expect(await addressOf('east-a')).toBe(address)
    expect((await ready('east-a-0')).metadata.uid).toBe(pod.metadata.uid)
  })
})

describe('the folder', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'tandem-dir-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('is locked by one process, whose pid is named; a dead one’s lock does not count', () => {
    const dir = prepare(join(folder, 'one'))
    const unlock = lock(dir)
    expect(() => lock(dir)).toThrow(new RegExp(`pid ${String(process.pid)}`))
    unlock()
    lock(dir)()
    expect(processStart(process.pid)).not.toBe('')
  })

  test('is refused when it holds somebody else’s files', () => {
    expect(() => prepare(folder)).toThrow(/not Tandem's/)
  })

  test('nothing outlives a kill -9 of `up`', async () => {
    const state = join(folder, 'killed')
    const child = spawn(process.execPath, [MAIN, 'up', '--state', state], { stdio: 'ignore' })
    const dir = stateDir(state)
    const status = await until(
      'up',
      async () =>
        (await control(dir, '/status').catch(() => undefined)) as
          { processes: { pid?: number }[] } | undefined,
    )
    child.kill('SIGKILL')
    for (const { pid } of status.processes)
      if (pid !== undefined)
        await until(`${String(pid)} is gone`, () => {
          try {
            process.kill(pid, 0)
            return undefined
          } catch {
            return true
          }
        })
  })
})

test('a process that an earlier `up` left behind, because it was stopped, is ended by the next', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tandem-left-'))
  const file = join(folder, 'processes.json')
  const launch = remembering(file, () => spawn('sleep', ['1000'], { stdio: 'ignore' }))
  const [left, other] = [launch('left', [], {}), launch('other', [], {})]
  try {
    left.kill('SIGSTOP')
    // As if the second pid were somebody else's by now.
    const known = JSON.parse(readFileSync(file, 'utf8')) as [number, string][]
    writeFileSync(
      file,
      JSON.stringify(known.map(([pid, started]) => [pid, pid === other.pid ? '1' : started])),
    )
    const ended = exited(left)
    endLeftovers(file, () => undefined)
    expect(await ended).toBe('signal SIGKILL')
    expect(other.exitCode ?? other.signalCode).toBeNull()
  } finally {
    other.kill('SIGKILL')
    await exited(other)
    rmSync(folder, { recursive: true })
  }
})

test('a filer may be named in several ways, and an ambiguous name is not guessed', () => {
  const keys = ['default/east-a-0', 'default/east-b-0', 'other/west-a-0']
  expect(matchPod(keys, 'b')).toBe('default/east-b-0')
  expect(matchPod(keys, 'west/a')).toBe('other/west-a-0')
  expect(matchPod(keys, 'other/west-a')).toBe('other/west-a-0')
  expect(() => matchPod(keys, 'a')).toThrow(/default\/east-a-0 or other\/west-a-0/)
  expect(() => matchPod(keys, 'c')).toThrow(/no filer c/)
})

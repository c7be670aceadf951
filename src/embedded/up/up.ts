/**
 * `tandem up`: the parent of everything in the embedded mode. It starts the store and the operator, stands for kubelet, kube-proxy
 * and network, and ends all of it in order: filers first (they write out what they hold), then the operator, the relays, the store.
 */
import { rmSync } from 'node:fs'
import type { ChildProcess } from 'node:child_process'
import { Informer } from '../../edge/kube/informer.ts'
import { KubeClient } from '../../edge/kube/client.ts'
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeApi, KubeObject, Resource } from '../../edge/kube/api.ts'
import { CLAIMS, PODS, SECRETS, SERVICES, STATEFUL_SETS, STORAGE_CLASSES } from '../../edge/kube/resources.ts'
import { resourceOfKind } from '../store/resources.ts'
import { controlServer } from './control.ts'
import type { UpStatus } from './control.ts'
import { Kubelet } from './kubelet.ts'
import type { Collections } from './kubelet.ts'
import { Links } from './links.ts'
import { Network } from './network.ts'
import { NODE_NAME } from './pod-spec.ts'
import { end, endLeftovers, exited, launcher, remembering } from './processes.ts'
import type { Launch } from './processes.ts'
import { Services } from './services.ts'
import { lock, prepare } from './state-dir.ts'
import type { StateDir } from './state-dir.ts'
import { WHOLE } from './relay.ts'
import type { LinkState } from './relay.ts'

const MANAGER = 'tandem-embedded'
const STORE_START_MS = 15_000
const FILER_GRACE_MS = 20_000

export interface UpOptions {
  readonly state: string
  readonly relayed: boolean
  readonly log: (message: string) => void
  readonly launch?: (dir: StateDir) => Launch
  /** Without it the store alone runs objects and nothing plans them (tests). */
  readonly operator?: boolean
  readonly restartDelayMs?: number
}

export interface Up {
  readonly dir: StateDir
  readonly api: KubeApi
  status(): UpStatus
  /** Resolves when somebody asked for the end by the control socket. */
  readonly stopRequested: Promise<void>
  stop(): Promise<void>
}

/** A child that is started again 1 s after it ended. */
class Supervised {
  child: ChildProcess | undefined
  #stopped = false
  readonly name: string
  readonly #start: () => ChildProcess
  readonly #log: (message: string) => void

  constructor(name: string, start: () => ChildProcess, log: (message: string) => void) {
    this.name = name
    this.#start = start
    this.#log = log
    this.#run()
  }

  #run(): void {
    if (this.#stopped) return
    const child = this.#start()
    this.child = child
    void exited(child).then((how) => {
      this.child = undefined
      if (this.#stopped) return
      this.#log(`${this.name} ended (${how}); started again`)
      setTimeout(() => this.#run(), 1000)
    })
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopped = true
    if (this.child !== undefined) await end(this.child, graceMs)
  }
}

export async function up(options: UpOptions): Promise<Up> {
  const dir = prepare(options.state)
  const unlock = lock(dir)
  const undo: (() => Promise<void> | void)[] = [unlock]
  const unwind = async (): Promise<void> => {
    while (undo.length > 0) await undo.pop()!()
  }
  try {
    return await assemble(dir, options, undo, unwind)
  } catch (error) {
    await unwind()
    throw error
  }
}

async function assemble(
  dir: StateDir,
  options: UpOptions,
  undo: (() => Promise<void> | void)[],
  unwind: () => Promise<void>,
): Promise<Up> {
  const { log } = options
  endLeftovers(dir.processes, log)
  const launch = remembering(dir.processes, options.launch?.(dir) ?? launcher(dir.logs))
  rmSync(dir.controlSocket, { force: true })
  const network = await Network.open(dir.network)
  undo.push(() => network.close())

  const store = new Supervised('store', () => launch('store', ['store', '--state', dir.path], {}), log)
  undo.push(() => store.stop(5000))
  const kube = `unix:${dir.storeSocket}`
  const api = new KubeClient({ server: kube }, { fieldManager: MANAGER })
  undo.push(() => api.close())
  await storeReady(api, store)
  await clusterObjects(api)

  const links = new Links(network, launch, options.relayed, log)
  undo.push(() => links.stop())
  let react: () => void = () => undefined
  const informers: Informer[] = []
  const follow = (resource: Resource): Informer => {
    const informer = new Informer(api, resource, { onChange: () => react() })
    informers.push(informer)
    return informer
  }
  const collections: Collections = {
    pods: follow(PODS),
    statefulSets: follow(STATEFUL_SETS),
    claims: follow(CLAIMS),
    secrets: follow(SECRETS),
    storageClasses: follow(STORAGE_CLASSES),
  }
  const serviceObjects = follow(SERVICES)
  undo.push(async () => {
    await Promise.all(informers.map((informer) => informer.stop()))
  })
  await Promise.all(informers.map((informer) => informer.start()))

  const kubelet = new Kubelet({
    api,
    dir,
    network,
    links,
    launch,
    collections,
    log,
    changed: () => services.trigger(),
    ...(options.restartDelayMs === undefined ? {} : { restartDelayMs: options.restartDelayMs }),
  })
  const services = new Services(api, network, kubelet, serviceObjects, collections.pods, log)
  react = () => {
    kubelet.trigger()
    services.trigger()
  }
  const operator =
    options.operator === false
      ? undefined
      : new Supervised(
          'operator',
          () => launch('operator', ['operator'], { TANDEM_KUBE: kube, POD_IP: network.address('operator') }),
          log,
        )
  undo.push(() => operator?.stop(5000))
  undo.push(() => services.stop())
  undo.push(() => kubelet.stop(FILER_GRACE_MS))
  react()

  const stop = Promise.withResolvers<void>()
  const status = (): UpStatus => ({
    pid: process.pid,
    state: dir.path,
    processes: [
      { name: 'store', pid: store.child?.pid },
      { name: 'operator', pid: operator?.child?.pid },
    ],
    pods: kubelet.pods,
    services: services.all,
    links: links.all,
  })
  const control = controlServer({
    '/status': async () => status(),
    '/stop': async () => stop.resolve(),
    '/hold': async ({ filer }) => kubelet.hold(podKey(kubelet, String(filer))),
    '/release': async ({ filer }) => kubelet.release(podKey(kubelet, String(filer))),
    '/kill': async ({ filer, signal }) => {
      const key = podKey(kubelet, String(filer))
      const [namespace = '', pod = ''] = key.split('/')
      kubelet.runner(namespace, pod)?.child?.kill(signal as NodeJS.Signals)
    },
    '/link': async ({ pair, peer, link, state, cutAll }) => {
      const wanted = (state ?? WHOLE) as LinkState
      if (typeof peer === 'string') {
        const cut = cutAll === true ? [peer] : wanted.cut
        return links.setBetween(String(pair), peer, String(link), { ...wanted, cut })
      }
      const cut = cutAll === true ? links.filersOf(String(pair), String(link)) : wanted.cut
      links.set(String(pair), String(link), { ...wanted, cut })
    },
  })
  await new Promise<void>((resolve, reject) => {
    control.once('error', reject)
    control.listen(dir.controlSocket, resolve)
  })
  undo.push(() => {
    control.close()
    control.closeAllConnections()
    rmSync(dir.controlSocket, { force: true })
  })
  return { dir, api, status, stopRequested: stop.promise, stop: unwind }
}

/** `a`, `east-a`, `east/a`, `default/east-a-0` → the key of the pod. */
export function matchPod(keys: readonly string[], word: string): string {
  const wanted = word.split('/')
  const matches = keys.filter((key) => {
    const [namespace, pod = ''] = key.split('/')
    const filer = pod.replace(/-0$/, '')
    const [, pair, short] = /^(.*)-([^-]+)$/.exec(filer) ?? []
    return (
      word === key ||
      word === pod ||
      word === filer ||
      word === short ||
      (wanted.length === 2 && wanted[0] === namespace && [pod, filer].includes(wanted[1]!)) ||
      (wanted.length === 2 && wanted[0] === pair && wanted[1] === short)
    )
  })
  const [match, ...more] = matches
  if (match === undefined) throw new Error(`no filer ${word}; there are: ${keys.join(', ') || 'none'}`)
  if (more.length > 0) throw new Error(`${word} may be ${matches.join(' or ')}: say which`)
  return match
}

function podKey(kubelet: Kubelet, word: string): string {
  return matchPod(
    kubelet.pods.map((pod) => pod.key),
    word,
  )
}

async function storeReady(api: KubeApi, store: Supervised): Promise<void> {
  const deadline = performance.now() + STORE_START_MS
  for (;;) {
    try {
      await api.list(resourceOfKind('v1', 'Namespace')!)
      return
    } catch (error) {
      if (performance.now() > deadline || store.child === undefined)
        throw new Error(`the store does not start: ${(error as Error).message}; see store.log`, {
          cause: error,
        })
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }
}

/** What a cluster has before anybody applies anything. */
async function clusterObjects(api: KubeApi): Promise<void> {
  const objects: KubeObject[] = [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } },
    {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: NODE_NAME, labels: { 'kubernetes.io/hostname': NODE_NAME } },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    },
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'embedded', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
      provisioner: 'tandem.storage/embedded',
      volumeBindingMode: 'Immediate',
      allowVolumeExpansion: true,
    },
  ]
  for (const object of objects) {
    const resource = resourceOfKind(object.apiVersion, object.kind)!
    await api.create(resource, object).catch((error: unknown) => {
      if (!(error instanceof KubeError && error.reason === 'AlreadyExists')) throw error
    })
    if (object['status'] !== undefined)
      await api.mergePatch(resource, '', object.metadata.name, { status: object['status'] }, 'status')
  }
}

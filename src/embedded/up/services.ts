/**
 * Each Service of a filer has a listener on 127.0.0.1, and says in an annotation where: the operator reads there what to put into a
 * volume's `status.mount`. Whom a connection is handed to is looked up at that moment: the running pod that the selector names.
 */
import type { Server } from 'node:net'
import type { ChildProcess } from 'node:child_process'
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeApi, KubeObject } from '../../edge/kube/api.ts'
import type { Informer } from '../../edge/kube/informer.ts'
import { SERVICES, keyOf } from '../../edge/kube/resources.ts'
import { selects } from '../store/selectors.ts'
import type { Kubelet } from './kubelet.ts'
import type { Network } from './network.ts'
import { ServiceProxy } from './proxy.ts'

export const ADDRESS_ANNOTATION = 'tandem.storage/embedded-address'
const NFS_PORT = 2049

interface Listener {
  readonly server: Server
  readonly port: number
  target: ChildProcess | undefined
}

export class Services {
  readonly #api: KubeApi
  readonly #network: Network
  readonly #kubelet: Kubelet
  readonly #services: Informer
  readonly #pods: Informer
  readonly #log: (message: string) => void
  readonly #proxy: ServiceProxy
  readonly #listeners = new Map<string, Listener>()
  #working: Promise<void> | undefined
  #again = false
  #stopped = false

  constructor(
    api: KubeApi,
    network: Network,
    kubelet: Kubelet,
    services: Informer,
    pods: Informer,
    log: (message: string) => void,
  ) {
    this.#api = api
    this.#network = network
    this.#kubelet = kubelet
    this.#services = services
    this.#pods = pods
    this.#log = log
    this.#proxy = new ServiceProxy(log)
  }

  get all(): { service: string; address: string; pod: string | undefined }[] {
    return [...this.#listeners].map(([service, { port }]) => ({
      service,
      address: `127.0.0.1:${port}`,
      pod: this.#podOf(service)?.metadata.name,
    }))
  }

  trigger(): void {
    if (this.#stopped) return
    this.#again = true
    // At once, not after the writes: a connection that went to the old filer must not linger.
    for (const [service, listener] of this.#listeners) {
      const target = this.#target(service)
      if (target === listener.target) continue
      listener.target = target
      this.#proxy.moved(service, target)
    }
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined
      if (this.#again) this.trigger()
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#working
    for (const { server } of this.#listeners.values()) server.close()
  }

  #podOf(service: string): KubeObject | undefined {
    const [namespace = '', name = ''] = service.split('/')
    const object = this.#services.get(namespace, name)
    const selector = (object?.['spec'] as { selector?: Record<string, string> } | undefined)?.selector
    for (const pod of this.#pods.all())
      if (pod.metadata.namespace === namespace && selects(selector, pod)) return pod
    return undefined
  }

  #target(service: string): ChildProcess | undefined {
    const pod = this.#podOf(service)
    return pod === undefined
      ? undefined
      : this.#kubelet.runner(pod.metadata.namespace ?? '', pod.metadata.name)?.child
  }

  async #work(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false
      try {
        const present = new Set<string>()
        for (const service of [...this.#services.all()]) {
          if (!servesFiles(service)) continue
          present.add(keyOf(service))
          await this.#listen(service)
        }
        for (const [key, { server }] of this.#listeners)
          if (!present.has(key)) {
            this.#listeners.delete(key)
            server.close()
          }
      } catch (error) {
        if (!(error instanceof KubeError && (error.code === 404 || error.code === 409)))
          this.#log(`services: ${(error as Error).message}; trying again`)
        setTimeout(() => this.trigger(), 300).unref()
      }
    }
  }

  async #listen(service: KubeObject): Promise<void> {
    const key = keyOf(service)
    let listener = this.#listeners.get(key)
    if (listener === undefined) {
      const server = this.#proxy.listener(key, () => this.#target(key))
      listener = { server, port: await this.#network.listenService(server, key), target: this.#target(key) }
      this.#listeners.set(key, listener)
      this.#log(`service ${key} is at 127.0.0.1:${String(listener.port)}`)
    }
    const address = `127.0.0.1:${listener.port}`
    if (service.metadata.annotations?.[ADDRESS_ANNOTATION] === address) return
    await this.#api.mergePatch(SERVICES, service.metadata.namespace ?? '', service.metadata.name, {
      metadata: { annotations: { [ADDRESS_ANNOTATION]: address } },
      spec: { clusterIP: '127.0.0.1' },
    })
  }
}

function servesFiles(service: KubeObject): boolean {
  const spec = service['spec'] as { clusterIP?: string; ports?: { port: number }[] } | undefined
  return spec?.clusterIP !== 'None' && (spec?.ports ?? []).some(({ port }) => port === NFS_PORT)
}

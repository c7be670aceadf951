/**
 * What passes over pairs, and over the mirrors and conversions of a namespace, need of each other: a pair must know what is in force, and the filers and
 * the authority of pairs at the other ends of its mirrors; a mirror what the filers of both pairs report.
 */
import { filerPair } from '../api/v1alpha1/filer-pair.ts'
import type { FilerPairSpec } from '../api/v1alpha1/filer-pair.ts'
import type { FilerStatus } from '../api/v1alpha1/filer-config.ts'
import { INTERCONNECTS_ANNOTATION } from '../edge/filer/addresses.ts'
import { CONVERSIONS, FILER_PAIRS, FILER_VOLUMES, MIRRORS, PODS, SECRETS } from '../edge/kube/resources.ts'
import { specInForce } from './accept.ts'
import { authorityBundle } from './certificates.ts'
import { conversionsAt } from './conversion/desired.ts'
import type { ConversionAtPair } from './conversion/desired.ts'
import { viewOf } from './filer-pair/view.ts'
import type { FilerReport } from './filer-pair/observed.ts'
import { mirrorsAt } from './mirror/desired.ts'
import type { MirrorAtPair, PeerPair } from './mirror/desired.ts'
import type { NamespaceObserved, PairObserved } from './namespace-observed.ts'
import { namesOf } from './names.ts'
import type { Plan } from './runtime/actions.ts'
import { namespaceKey } from './runtime/cache.ts'
import type { Cache } from './runtime/cache.ts'

export class NamespaceLinks {
  readonly #cache: () => Cache
  readonly #reports: (key: string) => ReadonlyMap<string, FilerReport>
  readonly #told = new Map<string, Plan['told']>()
  /** A pod that is away comes back where it was, mostly; and its partner tells if not. */
  readonly #addresses = new Map<string, Readonly<Record<string, string>>>()

  constructor(cache: () => Cache, reports: (key: string) => ReadonlyMap<string, FilerReport>) {
    this.#cache = cache
    this.#reports = reports
  }

  told(key: string, told: Plan['told']): void {
    if (told === undefined) this.#told.delete(key)
    else this.#told.set(key, told)
  }

  /** What is to be looked at when something of the pair (or of the mirrors and conversions of a namespace) is another. */
  touched(key: string): string[] {
    const [namespace, name] = split(key)
    const cache = this.#cache()
    const none = [MIRRORS, CONVERSIONS].every((r) => cache.inNamespace(r, namespace).length === 0)
    // When the last of them goes, the pairs have volumes that waited for it.
    if (none && name !== '') return [key]
    const others =
      name === ''
        ? cache.inNamespace(FILER_PAIRS, namespace).map((pair) => pair.metadata.name)
        : this.mirrorsAt(key).map((mirror) => mirror.otherPair)
    return [...new Set([key, namespaceKey(namespace), ...others.map((other) => `${namespace}/${other}`)])]
  }

  /** Ends of mirrors in force at a pair. */
  mirrorsAt(key: string): MirrorAtPair[] {
    const [namespace, name] = split(key)
    const mirrors = this.#cache().inNamespace(MIRRORS, namespace)
    if (mirrors.length === 0) return []
    const volumes = this.#cache().inNamespace(FILER_VOLUMES, namespace)
    return mirrorsAt(name, mirrors, volumes, (other) => this.peerPair(namespace, other))
  }

  /** Conversions in force of volumes of a pair. */
  conversionsAt(key: string): ConversionAtPair[] {
    const [namespace, name] = split(key)
    const conversions = this.#cache().inNamespace(CONVERSIONS, namespace)
    if (conversions.length === 0) return []
    return conversionsAt(name, conversions, this.#cache().inNamespace(FILER_VOLUMES, namespace))
  }

  peerPair(namespace: string, name: string): PeerPair | undefined {
    const objects = this.#cache().objects(`${namespace}/${name}`)
    const pair = objects.get(FILER_PAIRS, name)
    const spec = pair && specInForce<FilerPairSpec>(filerPair, pair)
    const ca = authorityBundle(objects.get(SECRETS, namesOf(name).authority))
    if (spec === undefined || ca === undefined) return undefined
    const addresses = spec.filers.map(({ name: filer }) => {
      const pod = namesOf(name).pod(filer)
      const text = objects.get(PODS, pod)?.metadata.annotations?.[INTERCONNECTS_ANNOTATION]
      if (text !== undefined) this.#addresses.set(`${namespace}/${pod}`, parse(text))
      return [filer, this.#addresses.get(`${namespace}/${pod}`) ?? {}] as const
    })
    return { spec, ca, addresses: Object.fromEntries(addresses) }
  }

  observed(namespace: string): Pick<NamespaceObserved, 'mirrors' | 'conversions' | 'volumes' | 'pair'> {
    const cache = this.#cache()
    return {
      mirrors: cache.inNamespace(MIRRORS, namespace),
      conversions: cache.inNamespace(CONVERSIONS, namespace),
      volumes: cache.inNamespace(FILER_VOLUMES, namespace),
      pair: (name) => this.#pair(namespace, name),
    }
  }

  #pair(namespace: string, name: string): PairObserved | undefined {
    const key = `${namespace}/${name}`
    const pair = this.#cache().objects(key).get(FILER_PAIRS, name)
    if (pair === undefined) return undefined
    const known = [...this.#reports(key).values()].flatMap(({ status }): FilerStatus[] =>
      status === undefined ? [] : [status],
    )
    return {
      spec: specInForce<FilerPairSpec>(filerPair, pair),
      view: viewOf(known),
      told: this.#told.get(key),
    }
  }
}

function split(key: string): [namespace: string, name: string] {
  const slash = key.indexOf('/')
  return [key.slice(0, slash), key.slice(slash + 1)]
}

/** Its filer wrote it; what cannot be read is as if it had not. */
function parse(text: string): Record<string, string> {
  try {
    return JSON.parse(text) as Record<string, string>
  } catch {
    return {}
  }
}

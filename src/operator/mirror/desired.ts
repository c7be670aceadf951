/** What the filers of one pair are told of its mirrors: the other pairs, with trust and addresses, and the ends that are here. Pure. */
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import type { DesiredState, MirrorDesired, PeerDesired } from '../../api/v1alpha1/filer-config.ts'
import { mirror } from '../../api/v1alpha1/mirror.ts'
import type { MirrorSpec } from '../../api/v1alpha1/mirror.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { specInForce } from '../accept.ts'
import { FINALIZER } from '../names.ts'
import { endsOf } from './accept.ts'

/** A pair as the filers of another one need to know it. */
export interface PeerPair {
  readonly spec: FilerPairSpec
  /** PEM. */
  readonly ca: string
  /** `host:port` by interconnect, by filer. */
  readonly addresses: Readonly<Record<string, Readonly<Record<string, string>>>>
}

/** A mirror in force that has an end at the pair. */
export interface MirrorAtPair {
  readonly name: string
  readonly role: 'Source' | 'Destination'
  readonly volumeName: string
  /** The other end. */
  readonly otherPair: string
  readonly spec: MirrorSpec
  readonly desired: MirrorDesired
}

export function mirrorsAt(
  pairName: string,
  mirrors: readonly KubeObject[],
  volumes: readonly KubeObject[],
  pairs: (name: string) => PeerPair | undefined,
): MirrorAtPair[] {
  const byName = new Map(volumes.map((v) => [v.metadata.name, v]))
  return mirrors.flatMap((object) => {
    const { name, uid = '', finalizers, deletionTimestamp } = object.metadata
    const spec = specInForce<MirrorSpec>(mirror, object)
    const ends = spec && endsOf(spec, byName)
    // Before the finalizer is there the object could go without a trace.
    if (spec === undefined || ends === undefined || !finalizers?.includes(FINALIZER)) return []
    return (['Source', 'Destination'] as const).flatMap((role): MirrorAtPair[] => {
      const [here, there] =
        role === 'Source' ? [ends.source, ends.destination] : [ends.destination, ends.source]
      if (here.pairName !== pairName) return []
      const filers = pairs(there.pairName)?.spec.filers ?? []
      const { policy, logFilesMax, state, discardChanges = '' } = spec
      const desired: MirrorDesired = {
        id: uid,
        role,
        volumeId: here.volumeId,
        peers: filers.map((filer) => `${there.pairName}/${filer.name}`),
        state: deletionTimestamp === undefined ? state : 'Removed',
        policy,
        logFilesMax,
        ...(discardChanges === '' ? {} : { discardChanges }),
      }
      const { volumeName } = here
      return [{ name, role, volumeName, otherPair: there.pairName, spec, desired }]
    })
  })
}

/** The part of the desired state; a pair without mirrors has none. */
export function mirrorContent(
  namespace: string,
  mirrors: readonly MirrorAtPair[],
  pairs: (name: string) => PeerPair | undefined,
): Pick<DesiredState, 'peers' | 'mirrors'> {
  if (mirrors.length === 0) return {}
  const peers = [...new Set(mirrors.map((m) => m.otherPair))].sort().flatMap((name): PeerDesired[] => {
    const pair = pairs(name)
    if (pair === undefined) return []
    const filers = pair.spec.filers.map((filer) => ({
      name: filer.name,
      addresses: { ...pair.addresses[filer.name] },
    }))
    return [{ name, namespace, pair: name, ca: pair.ca, filers }]
  })
  const ends = mirrors.map((m) => m.desired)
  return { peers, mirrors: ends.sort((x, y) => (x.id < y.id ? -1 : 1)) }
}

/**
 * Which mirrors of a namespace are in force, with the rules that concern several objects: volumes that are there, of two pairs, and no mirror that
 * another one stands in the way of. Pure.
 */
import { filerVolume } from '../../api/v1alpha1/filer-volume.ts'
import type { FilerVolumeSpec } from '../../api/v1alpha1/filer-volume.ts'
import { mirror } from '../../api/v1alpha1/mirror.ts'
import type { MirrorSpec } from '../../api/v1alpha1/mirror.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { accept, specInForce } from '../accept.ts'
import type { Acceptance } from '../accept.ts'
import { volumeId } from '../filer-volume/volume.ts'
import { byAge, notAccepted } from '../marks.ts'
import { fails } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'

/** A volume that a mirror names, with an accepted spec. */
export interface End {
  readonly volumeName: string
  readonly volumeId: string
  readonly pairName: string
  readonly spec: FilerVolumeSpec
}
export interface Ends {
  readonly source: End
  readonly destination: End
}

export interface MirrorInForce {
  readonly object: KubeObject
  readonly acceptance: Acceptance<MirrorSpec>
  /** Of the spec in force; undefined if there is none, or a volume is gone. */
  readonly ends: Ends | undefined
}

export interface MirrorsInput {
  readonly mirrors: readonly KubeObject[]
  /** All of the namespace. */
  readonly volumes: readonly KubeObject[]
  /** Whether filers say of the mirror with this id that it is in sync, in the direction of its spec in force. */
  readonly isInSync: (id: string) => boolean
}

const SIDES = ['source', 'destination'] as const

/** Of several that stand in each other's way those in force count, then the older ones. */
export function acceptMirrors({ mirrors, volumes, isInSync }: MirrorsInput): MirrorInForce[] {
  const byName = new Map(volumes.map((v) => [v.metadata.name, v]))
  const order = byAge(mirrors)
  const taken = new Map<string, MirrorSpec>()
  for (const object of order) {
    const spec = specInForce<MirrorSpec>(mirror, object)
    if (spec !== undefined) taken.set(object.metadata.name, spec)
  }
  return order.map((object) => {
    const { name, uid = '' } = object.metadata
    const others = [...taken].filter(([other]) => other !== name)
    const acceptance = accept<MirrorSpec>(mirror, object, (spec, before) =>
      before === undefined
        ? (volumesProblem(spec, byName, true) ?? otherMirrors(spec, others))
        : (volumesProblem(spec, byName, false) ?? swapProblem(spec, before, isInSync(uid))),
    )
    if (acceptance.spec !== undefined) taken.set(name, acceptance.spec)
    return { object, acceptance, ends: acceptance.spec && endsOf(acceptance.spec, byName) }
  })
}

export function endsOf(spec: MirrorSpec, volumes: ReadonlyMap<string, KubeObject>): Ends | undefined {
  const source = endOf(volumes.get(spec.source.volumeName))
  const destination = endOf(volumes.get(spec.destination.volumeName))
  return source === undefined || destination === undefined ? undefined : { source, destination }
}

function endOf(object: KubeObject | undefined): End | undefined {
  const spec = object && specInForce<FilerVolumeSpec>(filerVolume, object)
  if (object === undefined || spec === undefined) return undefined
  return {
    volumeName: object.metadata.name,
    volumeId: volumeId(object, spec),
    pairName: spec.pairName,
    spec,
  }
}

function volumesProblem(
  spec: MirrorSpec,
  volumes: ReadonlyMap<string, KubeObject>,
  isNew: boolean,
): Verdict | undefined {
  for (const side of SIDES) {
    const { volumeName } = spec[side]
    const field = `spec.${side}.volumeName`
    const object = volumes.get(volumeName)
    if (object === undefined)
      return fails('VolumeNotFound', `${field}: there is no FilerVolume ${volumeName}; make it`)
    // One that leaves waits for the mirrors that it has.
    if (isNew && object.metadata.deletionTimestamp !== undefined)
      return fails('VolumeNotFound', `${field}: FilerVolume ${volumeName} is being deleted`)
    const end = endOf(object)
    if (end === undefined) return notAccepted(object, field)
    if (end.spec.type !== 'Flexible')
      return fails(
        'VolumeNotFlexible',
        `${field}: FilerVolume ${volumeName} is ${end.spec.type}, and only Flexible volumes can be mirrored`,
      )
  }
  const { source, destination } = endsOf(spec, volumes)!
  if (source.volumeId === destination.volumeId)
    return fails(
      'SameVolume',
      `spec.destination.volumeName: ${destination.volumeName} is the volume of spec.source; name another`,
    )
  if (source.pairName === destination.pairName)
    return fails(
      'SamePair',
      `spec.destination.volumeName: ${destination.volumeName} is in FilerPair ${destination.pairName} like ${source.volumeName}, where both filers have it anyway; name a volume of another pair`,
    )
  return undefined
}

function otherMirrors(
  spec: MirrorSpec,
  others: readonly (readonly [string, MirrorSpec])[],
): Verdict | undefined {
  const [from, to] = SIDES.map((side) => spec[side].volumeName) as [string, string]
  const next = new Map(others.map(([, o]) => [o.source.volumeName, o.destination.volumeName]))
  for (
    let at = next.get(to), steps = 0;
    at !== undefined && steps <= others.length;
    at = next.get(at), steps++
  )
    if (at === from)
      return fails(
        'Cycle',
        `spec: ${from} is mirrored to ${to}, and from there back to ${from} by other mirrors; a ring of pairs needs volumes of its own for each mirror`,
      )
  for (const [name, other] of others) {
    const [otherFrom, otherTo] = SIDES.map((side) => other[side].volumeName)
    for (const [side, volume] of [
      ['source', from],
      ['destination', to],
    ] as const) {
      const field = `spec.${side}.volumeName: ${volume}`
      if (volume === (side === 'source' ? otherTo : otherFrom))
        return fails(
          'Cascade',
          `${field} is the ${side === 'source' ? 'destination' : 'source'} of Mirror ${name}; mirrors are not chained: name a volume of its own`,
        )
      if (volume === (side === 'source' ? otherFrom : otherTo))
        return fails('VolumeInUse', `${field} is the ${side} of Mirror ${name} already; name another volume`)
    }
  }
  return undefined
}

/** A reverse loses nothing only if both have everything. */
function swapProblem(spec: MirrorSpec, before: MirrorSpec, isInSync: boolean): Verdict | undefined {
  const isSwapped = spec.source.volumeName !== before.source.volumeName
  if (!isSwapped || before.state === 'Broken' || isInSync) return undefined
  return fails(
    'NotInSync',
    `spec: source and destination were swapped while the mirror is not in sync; it is reversed when it is. If ${before.source.volumeName} is lost, put them back and set spec.state: Broken`,
  )
}

/** Which conversions of a namespace are in force, with the rules that concern several objects: volume, aggregate, and what else has them. Pure. */
import { conversion } from '../../api/v1alpha1/conversion.ts'
import type { ConversionSpec } from '../../api/v1alpha1/conversion.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import { filerVolume } from '../../api/v1alpha1/filer-volume.ts'
import type { FilerVolumeSpec } from '../../api/v1alpha1/filer-volume.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { accept, specInForce } from '../accept.ts'
import type { Acceptance } from '../accept.ts'
import { byAge, notAccepted } from '../marks.ts'
import { fails } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'

/** The volume that is converted. */
export interface Converted {
  readonly volumeName: string
  readonly pairName: string
  /** Its home. */
  readonly side: string
}
export interface ConversionInForce {
  readonly object: KubeObject
  readonly acceptance: Acceptance<ConversionSpec>
  /** Of the spec in force; undefined if there is none, or the volume is gone. */
  readonly volume: Converted | undefined
}
export interface ConversionsInput {
  readonly conversions: readonly KubeObject[]
  /** All of the namespace. */
  readonly volumes: readonly KubeObject[]
  readonly pairSpec: (name: string) => FilerPairSpec | undefined
}

/** Of two with one volume or aggregate that in force has it, then the older. */
export function acceptConversions(input: ConversionsInput): ConversionInForce[] {
  const order = byAge(input.conversions)
  const taken = new Map<string, ConversionSpec>()
  for (const object of order) {
    const spec = specInForce<ConversionSpec>(conversion, object)
    if (spec !== undefined) taken.set(object.metadata.name, spec)
  }
  return order.map((object) => {
    const { name } = object.metadata
    const others = [...taken].filter(([other]) => other !== name)
    const acceptance = accept<ConversionSpec>(conversion, object, (spec, before) =>
      volumeProblem(spec, input, before === undefined ? others : undefined),
    )
    if (acceptance.spec !== undefined) taken.set(name, acceptance.spec)
    return { object, acceptance, volume: acceptance.spec && convertedIn(acceptance.spec, input) }
  })
}

function convertedIn(
  { volumeName, aggregate }: ConversionSpec,
  { volumes, pairSpec }: ConversionsInput,
): Converted | undefined {
  const pairName = specOf(volumeName, volumes)?.pairName
  if (pairName === undefined) return undefined
  // The volume's spec may have the aggregate by now, instead of the filer.
  const home = pairSpec(pairName)?.aggregates.find((a) => a.name === aggregate)
  return { volumeName, pairName, side: home?.filer ?? '' }
}

export function specOf(volumeName: string, volumes: readonly KubeObject[]): FilerVolumeSpec | undefined {
  const object = volumes.find((v) => v.metadata.name === volumeName)
  return object && specInForce<FilerVolumeSpec>(filerVolume, object)
}

/** `others`: conversions in force, of account for a new one only. */
function volumeProblem(
  { volumeName, aggregate }: ConversionSpec,
  { volumes, pairSpec }: ConversionsInput,
  others: readonly (readonly [string, ConversionSpec])[] | undefined,
): Verdict | undefined {
  const object = volumes.find((v) => v.metadata.name === volumeName)
  const field = `spec.volumeName: FilerVolume ${volumeName}`
  if (object === undefined) return fails('VolumeNotFound', `${field} is not there; name one that is`)
  const volume = specOf(volumeName, volumes)
  if (volume === undefined) return notAccepted(object, 'spec.volumeName')
  if (others === undefined) return undefined
  if (object.metadata.deletionTimestamp !== undefined)
    return fails('VolumeNotFound', `${field} is being deleted`)
  if (volume.type !== 'Traditional')
    return fails('VolumeNotTraditional', `${field} is ${volume.type} already; there is nothing to convert`)
  const pair = pairSpec(volume.pairName)
  const found = pair?.aggregates.find((a) => a.name === aggregate)
  if (found === undefined)
    return fails(
      'AggregateNotFound',
      `spec.aggregate: FilerPair ${volume.pairName} has no aggregate ${aggregate}; declare it there, on devices of its own`,
    )
  if (found.filer !== volume.filer)
    return fails(
      'OtherFiler',
      `spec.aggregate: ${aggregate} is of filer ${found.filer}, and the volume of filer ${volume.filer ?? ''}; name an aggregate of that`,
    )
  const user = volumes.find((v) => {
    const other = specInForce<FilerVolumeSpec>(filerVolume, v)
    return other?.pairName === volume.pairName && other.aggregate === aggregate
  })
  if (user !== undefined)
    return fails(
      'AggregateInUse',
      `spec.aggregate: FilerVolume ${user.metadata.name} is in ${aggregate}; the conversion needs an empty one`,
    )
  for (const [name, other] of others) {
    if (other.volumeName === volumeName)
      return fails('VolumeInUse', `${field} is that of Conversion ${name} already`)
    if (other.aggregate === aggregate && specOf(other.volumeName, volumes)?.pairName === volume.pairName)
      return fails(
        'AggregateInUse',
        `spec.aggregate: Conversion ${name} has ${aggregate}; name another aggregate`,
      )
  }
  return undefined
}

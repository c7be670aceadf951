/** What the filers of one pair are told of its conversions. One that is deleted is left out: that undoes it before the cut-over, and later leaves it to the filer. Pure. */
import { conversion } from '../../api/v1alpha1/conversion.ts'
import type { ConversionSpec, ConversionStatus } from '../../api/v1alpha1/conversion.ts'
import type { ConversionDesired } from '../../api/v1alpha1/filer-config.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { specInForce } from '../accept.ts'
import { FINALIZER } from '../names.ts'
import { specOf } from './accept.ts'

/** A conversion in force of a volume of the pair. */
export interface ConversionAtPair {
  readonly name: string
  readonly volumeName: string
  readonly aggregate: string
  /** Until it is complete or rolled back nothing else is made in the aggregate. */
  readonly isOpen: boolean
  /** undefined: it is being deleted. */
  readonly desired: Omit<ConversionDesired, 'volumeId'> | undefined
}

export function conversionsAt(
  pairName: string,
  conversions: readonly KubeObject[],
  volumes: readonly KubeObject[],
): ConversionAtPair[] {
  return conversions.flatMap((object): ConversionAtPair[] => {
    const { name, uid = '', finalizers, deletionTimestamp } = object.metadata
    const spec = specInForce<ConversionSpec>(conversion, object)
    // Before the finalizer is there the object could go without a trace.
    if (spec === undefined || !finalizers?.includes(FINALIZER)) return []
    if (specOf(spec.volumeName, volumes)?.pairName !== pairName) return []
    const { volumeName, aggregate, state, snapshots, scanBlocksPerSecond, discardChanges = '' } = spec
    const desired = { id: uid, aggregate, state, snapshots, scanBlocksPerSecond, discardChanges }
    const isOpen = !holdsIn(object, 'Complete') && !holdsIn(object, 'RolledBack')
    return [
      { name, volumeName, aggregate, isOpen, desired: deletionTimestamp === undefined ? desired : undefined },
    ]
  })
}

function holdsIn(object: KubeObject, type: string): boolean {
  const { conditions } = (object['status'] ?? {}) as ConversionStatus
  return conditions?.some((c) => c.type === type && c.status === 'True') === true
}

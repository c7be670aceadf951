/** Which volumes of a pair are in force, with the rules that concern several objects: the pair, its aggregates, paths that are unique. */
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import { filerVolume } from '../../api/v1alpha1/filer-volume.ts'
import type { FilerVolumeSpec } from '../../api/v1alpha1/filer-volume.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { accept } from '../accept.ts'
import type { Acceptance } from '../accept.ts'
import { fails } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'

export interface VolumeInForce {
  readonly object: KubeObject
  readonly acceptance: Acceptance<FilerVolumeSpec>
}

export function exportPath(name: string, spec: FilerVolumeSpec): string {
  return spec.export.path ?? `/${name}`
}

/** Older volumes come first: of two with one path the older keeps it. */
export function acceptVolumes(
  pairName: string,
  pair: FilerPairSpec | undefined,
  volumes: readonly KubeObject[],
): VolumeInForce[] {
  const order = [...volumes].sort(
    (x, y) =>
      (x.metadata.creationTimestamp ?? '').localeCompare(y.metadata.creationTimestamp ?? '') ||
      x.metadata.name.localeCompare(y.metadata.name),
  )
  const paths = new Map<string, string>()
  return order.map((object) => {
    const { name } = object.metadata
    const further = (spec: FilerVolumeSpec): Verdict | undefined => {
      if (pair === undefined)
        return fails(
          'PairNotFound',
          `spec.pairName: there is no FilerPair ${pairName} with an accepted spec in namespace ${object.metadata.namespace ?? ''}; create it, or make the volume in another pair`,
        )
      const known = pair.aggregates.map((a) => a.name)
      if (!known.includes(spec.aggregate))
        return fails(
          'AggregateNotFound',
          `spec.aggregate: FilerPair ${pairName} has no aggregate ${spec.aggregate}; it has ${known.join(', ')}`,
        )
      const path = exportPath(name, spec)
      const other = paths.get(path)
      if (other !== undefined)
        return fails(
          'NameTaken',
          `spec.export.path: ${path} is the path of FilerVolume ${other}, which is older; choose another path`,
        )
      return undefined
    }
    const acceptance = accept<FilerVolumeSpec>(filerVolume, object, further)
    if (acceptance.spec !== undefined) paths.set(exportPath(name, acceptance.spec), name)
    return { object, acceptance }
  })
}

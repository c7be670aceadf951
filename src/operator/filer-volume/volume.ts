/** What is so of a FilerVolume by its spec alone: its id, where it lives. And traditional volumes as their claims remember them. Pure. */
import type { DeviceSetSpec } from '../../api/v1alpha1/device-set.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerVolumeSpec, FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import type { TraditionalVolume } from '../filer-pair/accepted.ts'
import type { PairView } from '../filer-pair/view.ts'
import { ANNOTATION_DEVICES, LABEL_VOLUME, LABEL_VOLUME_ID, traditionalAggregate } from '../names.ts'

/** Names the volume's data for ever: the uid of its object, or what that adopted. */
export function volumeId(object: KubeObject, spec: FilerVolumeSpec | undefined): string {
  return spec?.adopt ?? object.metadata.uid ?? ''
}

export function exportPath(name: string, spec: FilerVolumeSpec): string {
  return spec.export.path ?? `/${name}`
}

/** As filers know it. */
export function aggregateOf(name: string, spec: FilerVolumeSpec): string {
  return spec.type === 'Traditional' ? traditionalAggregate(name) : (spec.aggregate ?? '')
}

/** The side in which it lives; '' if the pair does not have it. */
export function homeOf(spec: FilerVolumeSpec, pair: FilerPairSpec | undefined): string {
  if (spec.type === 'Traditional') return spec.filer ?? ''
  return pair?.aggregates.find((a) => a.name === spec.aggregate)?.filer ?? ''
}

/** It was born traditional, and lives in an aggregate now. */
export function isConverted(object: KubeObject, spec: FilerVolumeSpec | undefined, view: PairView): boolean {
  const told = object['status'] as FilerVolumeStatus | undefined
  const type = view.volume(volumeId(object, spec))?.type ?? told?.type
  return spec?.type === 'Traditional' && type === 'Flexible'
}

/** A traditional volume of which there are device claims. */
export interface KeptVolume {
  readonly volume: TraditionalVolume
  /** Some claim of it is not being deleted; what is missing is made again, as a lost disk is. */
  readonly stays: boolean
}

/** By id, from the pair's claims. */
export function keptVolumes(claims: readonly KubeObject[]): Map<string, KeptVolume> {
  const kept = new Map<string, KeptVolume>()
  for (const { metadata } of claims) {
    const id = metadata.labels?.[LABEL_VOLUME_ID]
    const name = metadata.labels?.[LABEL_VOLUME]
    const shape = parseDevices(metadata.annotations?.[ANNOTATION_DEVICES])
    if (id === undefined || name === undefined || shape === undefined) continue
    const known = kept.get(id)
    const stays = known?.stays === true || metadata.deletionTimestamp === undefined
    const isLarger = known === undefined || devicesIn(shape) > devicesIn(known.volume)
    kept.set(id, { volume: isLarger ? { name, id, ...shape } : known.volume, stays })
  }
  return kept
}

function devicesIn({ deviceSets }: Pick<TraditionalVolume, 'deviceSets'>): number {
  return deviceSets.reduce((sum, set) => sum + set.count, 0)
}

function parseDevices(
  text: string | undefined,
): { filer: string; deviceSets: readonly DeviceSetSpec[] } | undefined {
  if (text === undefined) return undefined
  try {
    const value = JSON.parse(text) as { filer?: unknown; deviceSets?: unknown }
    return typeof value.filer === 'string' && Array.isArray(value.deviceSets)
      ? { filer: value.filer, deviceSets: value.deviceSets as DeviceSetSpec[] }
      : undefined
  } catch {
    return undefined
  }
}

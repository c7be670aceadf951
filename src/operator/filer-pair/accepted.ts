/** A pair as far as its objects depend on it, and the pools of devices that its filers have. Pure. */
import type { DeviceSetSpec } from '../../api/v1alpha1/device-set.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import { deviceName, namesOf, traditionalAggregate } from '../names.ts'

/** A pair with an accepted spec. */
export interface AcceptedPair {
  readonly namespace: string
  readonly name: string
  /** metadata.uid: owns what goes with the pair. */
  readonly uid: string
  /** Names its data for ever: the uid, or what it adopted. */
  readonly id: string
  readonly spec: FilerPairSpec
  /** No pods: it is stopped, and nobody has anything left to write. */
  readonly isAtRest?: boolean
  /** Those with an object, and those whose devices are all still there. */
  readonly traditional: readonly TraditionalVolume[]
}

export interface TraditionalVolume {
  readonly name: string
  readonly id: string
  readonly filer: string
  readonly deviceSets: readonly DeviceSetSpec[]
  /** Its claims are being deleted: none of them is made again. */
  readonly leaves?: true
}

/** An aggregate as filers know it. */
export interface Pool {
  readonly name: string
  readonly filer: string
  readonly deviceSets: readonly DeviceSetSpec[]
  /** The one volume that it is of. */
  readonly volume: TraditionalVolume | undefined
}

export interface PoolDevice {
  /** As in the path of the device within the pod. */
  readonly name: string
  readonly pool: Pool
  readonly set: DeviceSetSpec
}

export function pairId(uid: string, spec: FilerPairSpec | undefined): string {
  return spec?.adopt ?? uid
}

export function poolsOf(pair: Pick<AcceptedPair, 'spec' | 'traditional'>): Pool[] {
  const volumes = [...pair.traditional].sort((x, y) => (x.name < y.name ? -1 : 1))
  return [
    ...pair.spec.aggregates.map(({ name, filer, deviceSets }) => ({
      name,
      filer,
      deviceSets,
      volume: undefined,
    })),
    ...volumes.map((volume) => ({
      name: traditionalAggregate(volume.name),
      filer: volume.filer,
      deviceSets: volume.deviceSets,
      volume,
    })),
  ]
}

export function devicesOf(pool: Pool): PoolDevice[] {
  return pool.deviceSets.flatMap((set) =>
    Array.from({ length: set.count }, (_, index) => ({
      name: deviceName(pool.name, set.name, index),
      pool,
      set,
    })),
  )
}

/** The claim of a device at one filer. */
export function claimOf(pair: Pick<AcceptedPair, 'name'>, filer: string, device: PoolDevice): string {
  const names = namesOf(pair.name)
  return device.pool.volume === undefined
    ? names.aggregateClaim(filer, device.name)
    : names.volumeClaim(filer, device.name)
}

/** What the operator would ask of the filers of a simulated pair: the volumes of both sides. */
import type { Desired, DesiredVolume } from '../core/filer/served-volumes.ts'
import type { SideName } from './names.ts'
import { FILERS } from './names.ts'

/** Of the volumes with snapshots. */
export const SCHEDULE = { name: 'auto', cron: '* * * * *', keep: 2 }

export const laterOf = (side: SideName, n: number): string => `later-${side}-${n}`
export const emptyOf = (side: SideName): string => `empty-${side}`
export const traditionalOf = (side: SideName): string => `t${side}`

export interface DesiredOptions {
  readonly volumeBytes: number
  readonly traditionalBlocks?: readonly number[]
  readonly snapshots?: boolean
  readonly givebackDelayMs: number
  readonly confirmedReads?: boolean
}

const exported = (name: string) => ({
  path: `/${name}`,
  rules: [{ clients: ['*'], access: 'ReadWrite' as const, squash: 'None' as const }],
})

/** `later`: how many aggregates a side has got later; `retired`: sides whose later volumes are to go. */
export function desiredOf(
  { volumeBytes, traditionalBlocks, snapshots, givebackDelayMs, confirmedReads }: DesiredOptions,
  later: (side: SideName) => number,
  retired: ReadonlySet<SideName>,
): Desired {
  const volumes = FILERS.flatMap((side): DesiredVolume[] => {
    const flexible: DesiredVolume = {
      id: `volume-${side}`,
      name: side,
      type: 'Flexible',
      aggregate: `aggr-${side}`,
      sizeBytes: volumeBytes,
      export: exported(side),
      state: 'Present',
    }
    const more = Array.from({ length: later(side) }, (_, n): DesiredVolume => {
      const name = `${side}-${n}`
      return {
        ...flexible,
        id: `volume-${name}`,
        name,
        aggregate: laterOf(side, n),
        export: exported(name),
        state: retired.has(side) ? 'Removed' : 'Present',
      }
    })
    const snapshotted: DesiredVolume = {
      ...flexible,
      id: `volume-snap-${side}`,
      name: `snap-${side}`,
      sizeBytes: Math.floor(volumeBytes / 4),
      export: exported(`snap-${side}`),
      snapshotSchedules: [SCHEDULE],
    }
    const name = traditionalOf(side)
    const traditional: DesiredVolume = {
      id: `volume-${name}`,
      name,
      type: 'Traditional',
      aggregate: `vol-${name}`,
      sizeBytes: 0,
      export: exported(name),
      state: 'Present',
    }
    return [
      flexible,
      ...more,
      ...(snapshots === true ? [snapshotted] : []),
      ...(traditionalBlocks === undefined ? [] : [traditional]),
    ]
  })
  return {
    generation: 1 + retired.size,
    volumes,
    takeover: { mode: 'Automatic', giveback: 'Automatic', givebackDelayMs, givebackEpoch: 0 },
    reads: confirmedReads === true ? 'Confirmed' : 'Leased',
  }
}

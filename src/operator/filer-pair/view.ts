/**
 * What the two filers report, as one picture. Of a side the newest epoch speaks, and within it the owner; of an interconnect the worse
 * of two views; of what lies in an aggregate the filer that serves it.
 */
import type { FilerStatus } from '../../api/v1alpha1/filer-config.ts'

export type SideReport = FilerStatus['sides'][number]
export type AggregateReport = FilerStatus['aggregates'][number]
export type VolumeReport = FilerStatus['volumes'][number]
export type LinkReport = FilerStatus['interconnects'][number]
export type MirrorReport = NonNullable<FilerStatus['mirrors']>[number]
export type ConversionReport = NonNullable<FilerStatus['conversions']>[number]

export interface PairView {
  /** By filer that answered. */
  readonly filers: ReadonlyMap<string, FilerStatus>
  readonly sides: ReadonlyMap<string, SideReport>
  readonly links: readonly LinkReport[]
  readonly lastTakeover: FilerStatus['lastTakeover']
  /** Highest generation of the desired state that any filer knows. */
  readonly generation: number
  readonly voteReachable: boolean
  /** From the filer that serves the side. */
  aggregate(side: string, name: string): AggregateReport | undefined
  volume(id: string): VolumeReport | undefined
  readonly volumes: readonly VolumeReport[]
  /** The end of a mirror at this pair, by the mirror's id. */
  mirror(id: string): MirrorReport | undefined
  conversion(id: string): ConversionReport | undefined
}

const linkOrder = ['Up', 'Slow', 'Down'] as const

export function viewOf(reports: readonly FilerStatus[]): PairView {
  const filers = new Map(reports.map((r) => [r.filer, r]))
  const sides = new Map<string, SideReport>()
  for (const report of reports)
    for (const side of report.sides) {
      const known = sides.get(side.side)
      if (known === undefined || speaksBefore(side, known)) sides.set(side.side, side)
    }
  const links = new Map<string, LinkReport>()
  for (const report of reports)
    for (const link of report.interconnects) {
      const known = links.get(link.name)
      if (known === undefined) links.set(link.name, link)
      else {
        const worse = linkOrder.indexOf(link.state) > linkOrder.indexOf(known.state) ? link : known
        const addresses = [...new Set([...known.addresses, ...link.addresses])].sort()
        const roundTripMicroseconds = Math.max(link.roundTripMicroseconds, known.roundTripMicroseconds)
        const told = worse.state === 'Down' ? [worse, known, link].find((l) => l.reason) : undefined
        const { reason: _, message: __, ...figures } = worse
        const why = told && { reason: told.reason, message: told.message }
        links.set(link.name, { ...figures, ...why, addresses, roundTripMicroseconds })
      }
    }
  const takeovers = reports.flatMap((r) => (r.lastTakeover === null ? [] : [r.lastTakeover]))
  const owner = (side: string) => filers.get(sides.get(side)?.owner ?? '')
  const volumes = new Map<string, VolumeReport>()
  for (const report of reports)
    for (const volume of report.volumes)
      if (!volumes.has(volume.id) || owner(volume.side) === report) volumes.set(volume.id, volume)
  /** Of what two filers tell of a volume, what its server does. */
  const byServer = <T extends { id: string; volumeId: string }>(
    of: (report: FilerStatus) => readonly T[] | undefined,
  ): Map<string, T> => {
    const found = new Map<string, T>()
    for (const report of reports)
      for (const one of of(report) ?? []) {
        const side = volumes.get(one.volumeId)?.side ?? ''
        if (!found.has(one.id) || owner(side) === report) found.set(one.id, one)
      }
    return found
  }
  const mirrors = byServer((report) => report.mirrors)
  const conversions = byServer((report) => report.conversions)
  return {
    filers,
    sides,
    links: [...links.values()],
    lastTakeover: takeovers.sort((x, y) => y.time.localeCompare(x.time))[0] ?? null,
    generation: Math.max(0, ...reports.map((r) => r.generation)),
    voteReachable: reports.every((r) => r.voteReachable),
    aggregate: (side, name) => owner(side)?.aggregates.find((a) => a.name === name),
    volume: (id) => volumes.get(id),
    volumes: [...volumes.values()],
    mirror: (id) => mirrors.get(id),
    conversion: (id) => conversions.get(id),
  }
}

function speaksBefore(a: SideReport, b: SideReport): boolean {
  if (a.epoch !== b.epoch) return a.epoch > b.epoch
  return a.role === 'Owner' && b.role !== 'Owner'
}

/** One number for the whole pair that grows with every change of any side. */
export function pairEpoch(view: PairView): number {
  return [...view.sides.values()].reduce((sum, side) => sum + side.epoch, 0)
}

/** The filer that serves the side has taken up the desired state of this generation: what it reports is an answer to that. */
export function hasTakenUp(view: PairView, side: string, generation: number): boolean {
  const of = view.sides.get(side)
  const owner = view.filers.get(of?.owner ?? '')
  return owner !== undefined && of?.serving === true && owner.generation >= generation
}

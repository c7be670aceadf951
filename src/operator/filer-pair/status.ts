/** The status of a FilerPair. Pure. Figures are rounded and kept while they are near the old ones: noise causes no write. */
import { roundBytes } from '../../api/quantity.ts'
import type { FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import { namesOf } from '../names.ts'
import { headline, steady } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { pairEpoch } from './view.ts'
import type { FilerObserved, StatusInput } from './status-input.ts'
import { sidesOf } from './status-input.ts'
import type { SideReport } from './view.ts'

const SLOW_FIGURE_FACTOR = 2
const USED_FACTOR = 1.05

export function pairStatus(
  input: StatusInput,
  verdicts: Readonly<Record<string, Verdict>>,
): Omit<FilerPairStatus, 'conditions' | 'observedGeneration'> {
  const { view, before, spec } = input
  const message = headline(verdicts)
  if (spec === undefined) return { id: input.id, ...(message === '' ? {} : { message }) }
  const sides = sidesOf(input)
  const up = spec.interconnects
    .filter((i) => view.links.find((l) => l.name === i.name)?.state !== undefined)
    .filter((i) => view.links.find((l) => l.name === i.name)?.state !== 'Down').length
  const retained = view.volumes.filter((v) => !input.volumeIds.has(v.id) && v.state !== 'Removed')
  return {
    id: input.id,
    ...(view.sides.size === 0 ? {} : { epoch: pairEpoch(view) }),
    serving: sides.map(({ name, report }) => `${name}:${servedBy(report) ?? '-'}`).join(' '),
    links: `${up}/${spec.interconnects.length}`,
    ...(message === '' ? {} : { message }),
    filers: input.filers.map((f) => filerStatus(f, input)),
    interconnects: spec.interconnects.map(({ name }) => {
      const link = view.links.find((l) => l.name === name)
      const old = before?.interconnects?.find((i) => i.name === name)?.roundTripMicroseconds
      return {
        name,
        state: link?.state ?? ('Down' as const),
        ...(link === undefined
          ? {}
          : {
              roundTripMicroseconds: Math.round(
                steady(old, Number(link.roundTripMicroseconds.toPrecision(2)), SLOW_FIGURE_FACTOR),
              ),
              addresses: link.addresses,
              ...(link.reason && { reason: link.reason, message: link.message ?? '' }),
            }),
      }
    }),
    aggregates: input.pools.map((pool) => aggregateStatus(pool.name, pool.filer, input)),
    ...(view.lastTakeover === null
      ? before?.lastTakeover === undefined
        ? {}
        : { lastTakeover: before.lastTakeover }
      : { lastTakeover: view.lastTakeover }),
    ...stalenessOf(input),
    ...(retained.length === 0
      ? {}
      : {
          retainedVolumes: retained.map((v) => ({
            id: v.id,
            name: v.name,
            type: v.type,
            aggregate: v.aggregate,
            used: roundBytes(v.usedBytes),
          })),
        }),
  }
}

/** Copies that are not the latest, and those that are served all the same. */
function stalenessOf({ view }: StatusInput): Pick<FilerPairStatus, 'outOfDateCopies' | 'acceptedLosses'> {
  const timeOf = (seconds: number): string => new Date(seconds * 1000).toISOString().replace(/[.]\d+Z$/, 'Z')
  const sides = [...view.filers.values()].flatMap(({ filer, sides }) => sides.map((s) => ({ filer, ...s })))
  const outOfDateCopies = sides.flatMap(({ filer, side, dataFromSeconds }) =>
    dataFromSeconds === undefined ? [] : [{ filer, side, dataFrom: timeOf(dataFromSeconds) }],
  )
  const acceptedLosses = sides.flatMap(({ filer, side, lossAccepted }) =>
    lossAccepted === undefined ? [] : [{ filer, side, dataFrom: timeOf(lossAccepted.dataFromSeconds) }],
  )
  return {
    ...(outOfDateCopies.length === 0 ? {} : { outOfDateCopies }),
    ...(acceptedLosses.length === 0 ? {} : { acceptedLosses }),
  }
}

function servedBy(report: SideReport | undefined): string | undefined {
  return report?.serving === true ? report.owner : undefined
}

function filerStatus(f: FilerObserved, input: StatusInput): NonNullable<FilerPairStatus['filers']>[number] {
  const side = input.view.sides.get(f.name)
  const answers = input.view.filers.has(f.name)
  const server = servedBy(side)
  const node = (f.pod?.['spec'] as { nodeName?: string } | undefined)?.nodeName
  const clusterIP = (f.service?.['spec'] as { clusterIP?: string } | undefined)?.clusterIP
  const resyncing = [...input.view.sides.values()].some((s) => s.resyncPercent !== null && s.owner !== f.name)
  const state = (): 'Serving' | 'TakenOver' | 'Resyncing' | 'Waiting' | 'Down' => {
    if (server === f.name) return 'Serving'
    if (!answers && server === undefined) return 'Down'
    if (resyncing && answers) return 'Resyncing'
    return server === undefined ? 'Waiting' : 'TakenOver'
  }
  return {
    name: f.name,
    pod: namesOf(input.name).pod(f.name),
    ...(node === undefined ? {} : { node }),
    state: state(),
    ...(server === undefined ? {} : { servedBy: server }),
    ...(side === undefined ? {} : { epoch: side.epoch }),
    ...(clusterIP === undefined || clusterIP === '' ? {} : { clusterIP }),
  }
}

function aggregateStatus(
  name: string,
  side: string,
  input: StatusInput,
): NonNullable<FilerPairStatus['aggregates']>[number] {
  const report = input.view.aggregate(side, name)
  const sideReport = input.view.sides.get(side)
  const server = servedBy(sideReport)
  const old = input.before?.aggregates?.find((a) => a.name === name)
  if (report === undefined) return { name, ...(server === undefined ? {} : { servedBy: server }) }
  const percent = sideReport?.resyncPercent ?? null
  return {
    name,
    ...(server === undefined ? {} : { servedBy: server }),
    size: roundBytes(report.sizeBytes),
    used: roundedUsed(old?.used, report.usedBytes),
    devices: report.devices.length,
    ...(report.waitingDevices.length === 0 ? {} : { waitingDevices: report.waitingDevices }),
    ...(report.unrepairableBlocks === undefined ? {} : { unrepairableBlocks: report.unrepairableBlocks }),
    plexes: report.plexes.map((p) => ({
      ...p,
      ...(p.state === 'Resyncing' && percent !== null
        ? { resyncPercent: Math.floor(percent / 10) * 10 }
        : {}),
    })),
  }
}

/** Two digits and a suffix; the old text while the figure is within a twentieth of it. */
export function roundedUsed(before: string | undefined, bytes: number): string {
  const beforeBytes = before === undefined ? undefined : approximateBytes(before)
  return beforeBytes !== undefined && steady(beforeBytes, bytes, USED_FACTOR) === beforeBytes
    ? before!
    : roundBytes(bytes)
}

function approximateBytes(text: string): number | undefined {
  const match = /^([0-9.]+)(Ki|Mi|Gi|Ti|Pi)?$/.exec(text)
  if (match === null) return undefined
  const power = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi'].indexOf(match[2] ?? '')
  return Number(match[1]) * 1024 ** power
}

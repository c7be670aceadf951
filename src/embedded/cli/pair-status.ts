/** `tandem status`: a pair at a glance, from its objects alone. Pure. */
import type { FilerPairSpec, FilerPairStatus } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { pauseText } from './pair-moves.ts'
import { age, table } from './table.ts'

export function pairStatus(pair: KubeObject, volumes: readonly KubeObject[], nowMs: number): string {
  const status: FilerPairStatus = pair['status'] ?? {}
  const spec = pair['spec'] as Partial<FilerPairSpec>
  const parts = [
    `Pair ${pair.metadata.namespace ?? ''}/${pair.metadata.name}, epoch ${String(status.epoch ?? 'unknown')}`,
    ...orders(spec),
    takeover(status),
  ]
  const block = (title: string, header: readonly string[], rows: readonly (readonly string[])[]): void => {
    if (rows.length > 0) parts.push(`\n${title}\n${table([header, ...rows]).replace(/^/gm, '  ')}`)
  }
  block(
    'Conditions',
    ['TYPE', 'STATUS', 'SINCE', 'REASON', 'MESSAGE'],
    (status.conditions ?? []).map((condition) => [
      condition.type,
      condition.status,
      condition.lastTransitionTime === undefined ? '' : age(condition.lastTransitionTime, nowMs),
      condition.reason ?? '',
      condition.message ?? '',
    ]),
  )
  block(
    'Filers',
    ['NAME', 'STATE', 'SERVED BY', 'EPOCH', 'POD', 'NODE', 'ADDRESS'],
    (status.filers ?? []).map((filer) => [
      filer.name,
      filer.state,
      filer.servedBy ?? '',
      String(filer.epoch ?? ''),
      filer.pod,
      filer.node ?? '',
      filer.clusterIP ?? '',
    ]),
  )
  block(
    'Interconnects',
    ['NAME', 'STATE', 'ROUND TRIP', 'ADDRESSES', 'WHY'],
    (status.interconnects ?? []).map((link) => [
      link.name,
      link.state,
      link.roundTripMicroseconds === undefined ? '' : `${String(link.roundTripMicroseconds)} µs`,
      (link.addresses ?? []).join(' '),
      link.reason === undefined ? '' : `${link.reason}: ${link.message ?? ''}`,
    ]),
  )
  block(
    'Aggregates',
    ['NAME', 'SERVED BY', 'SIZE', 'USED', 'DEVICES', 'COPIES'],
    (status.aggregates ?? []).map((aggregate) => [
      aggregate.name,
      aggregate.servedBy ?? '',
      aggregate.size ?? '',
      aggregate.used ?? '',
      `${String(aggregate.devices ?? '')}${waiting(aggregate.waitingDevices?.length ?? 0)}`,
      (aggregate.plexes ?? [])
        .map(
          (plex) =>
            `${plex.filer}:${plex.state}${plex.resyncPercent === undefined ? '' : ` ${String(plex.resyncPercent)} %`}`,
        )
        .join(', '),
    ]),
  )
  block(
    'Volumes',
    ['NAME', 'SERVED BY', 'SIZE', 'USED', 'SNAPSHOTS', 'MOUNT'],
    volumes.map((volume) => {
      const { servedBy, size, used, mount, snapshots = [] }: FilerVolumeStatus = volume['status'] ?? {}
      const line =
        mount === undefined ? '' : `mount -t nfs -o ${mount.options} ${mount.server}:${mount.path} DIR`
      return [volume.metadata.name, servedBy ?? '', size ?? '', used ?? '', String(snapshots.length), line]
    }),
  )
  const last = status.lastTakeover
  if (last !== undefined)
    parts.push(
      `\nLast takeover: ${last.side ?? 'a side'} by ${last.filer}, ${age(last.time, nowMs)} ago (${last.reason}); ${pauseText(last.clientPauseMilliseconds)}`,
    )
  return parts.join('\n')
}

/** What people asked for that is not the ordinary. */
function orders({ state, maintenance, acceptLoss }: Partial<FilerPairSpec>): string[] {
  return [
    ...(state === 'Stopped' ? ['State: Stopped'] : []),
    ...(maintenance === undefined ? [] : [`Maintenance: filer ${maintenance.filer}`]),
    ...(acceptLoss === undefined
      ? []
      : [`Loss accepted: filer ${acceptLoss.filer} at epoch ${String(acceptLoss.epoch)}`]),
  ]
}

function takeover({ conditions = [], outOfDateCopies = [], acceptedLosses = [] }: FilerPairStatus): string {
  const possible = conditions.find((condition) => condition.type === 'TakeoverPossible')
  const lines = [
    possible?.status === 'True'
      ? `Takeover: possible; ${possible.message}`
      : `Takeover: not possible: ${possible?.reason ?? 'Unknown'}: ${possible?.message ?? 'the pair has not reported'}`,
    ...outOfDateCopies.map(
      ({ filer, side, dataFrom }) => `Out of date: filer ${filer} has ${side} as it was at ${dataFrom}`,
    ),
    ...acceptedLosses.map(
      ({ filer, side, dataFrom }) =>
        `Lost: what was acknowledged of ${side} after ${dataFrom}; filer ${filer} serves it`,
    ),
  ]
  return lines.join('\n')
}

function waiting(count: number): string {
  return count === 0 ? '' : ` (${String(count)} waiting)`
}

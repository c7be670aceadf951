/** `tandem status`: a pair at a glance, from its objects alone. Pure. */
import type { KubeObject } from '../../edge/kube/api.ts'
import { age, table } from './table.ts'

interface PairStatus {
  readonly epoch?: number
  readonly message?: string
  readonly conditions?: readonly {
    type: string
    status: string
    reason?: string
    message?: string
    lastTransitionTime?: string
  }[]
  readonly filers?: readonly {
    name: string
    pod: string
    node?: string
    state: string
    servedBy?: string
    clusterIP?: string
  }[]
  readonly interconnects?: readonly {
    name: string
    state: string
    roundTripMicroseconds?: number
    addresses?: readonly string[]
  }[]
  readonly aggregates?: readonly {
    name: string
    servedBy?: string
    size?: string
    used?: string
    plexes?: readonly { filer: string; state: string; resyncPercent?: number }[]
  }[]
  readonly lastTakeover?: {
    filer: string
    side?: string
    reason: string
    time: string
    clientPauseMilliseconds: number
  }
}

export function pairStatus(pair: KubeObject, volumes: readonly KubeObject[], nowMs: number): string {
  const status = (pair['status'] ?? {}) as PairStatus
  const parts = [
    `Pair ${pair.metadata.namespace ?? ''}/${pair.metadata.name}, epoch ${String(status.epoch ?? 'unknown')}`,
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
    ['NAME', 'STATE', 'SERVED BY', 'POD', 'ADDRESS'],
    (status.filers ?? []).map((filer) => [
      filer.name,
      filer.state,
      filer.servedBy ?? '',
      filer.pod,
      filer.clusterIP ?? '',
    ]),
  )
  block(
    'Interconnects',
    ['NAME', 'STATE', 'ROUND TRIP', 'ADDRESSES'],
    (status.interconnects ?? []).map((link) => [
      link.name,
      link.state,
      link.roundTripMicroseconds === undefined ? '' : `${String(link.roundTripMicroseconds)} µs`,
      (link.addresses ?? []).join(' '),
    ]),
  )
  block(
    'Aggregates',
    ['NAME', 'SERVED BY', 'SIZE', 'USED', 'COPIES'],
    (status.aggregates ?? []).map((aggregate) => [
      aggregate.name,
      aggregate.servedBy ?? '',
      aggregate.size ?? '',
      aggregate.used ?? '',
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
    ['NAME', 'SERVED BY', 'SIZE', 'USED', 'MOUNT'],
    volumes.map((volume) => {
      const { servedBy, size, used, mount } = (volume['status'] ?? {}) as {
        servedBy?: string
        size?: string
        used?: string
        mount?: { server: string; path: string; options: string }
      }
      const line =
        mount === undefined ? '' : `mount -t nfs -o ${mount.options} ${mount.server}:${mount.path} DIR`
      return [volume.metadata.name, servedBy ?? '', size ?? '', used ?? '', line]
    }),
  )
  const last = status.lastTakeover
  if (last !== undefined)
    parts.push(
      `\nLast takeover: ${last.side ?? 'a side'} by ${last.filer}, ${age(last.time, nowMs)} ago (${last.reason}); clients waited ${String(last.clientPauseMilliseconds)} ms`,
    )
  return parts.join('\n')
}

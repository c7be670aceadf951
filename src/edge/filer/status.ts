/** What a filer says of itself to the operator (FilerStatus), gathered from its parts. */
import type { FilerPodConfig, FilerStatus, PeerStatus, PlexState } from '../../api/v1alpha1/filer-config.ts'
import type { Connection } from '../../core/connection/client.ts'
import type { FilerAggregate } from '../../core/filer/aggregate-store.ts'
import type { Filer } from '../../core/filer/filer.ts'
import { propertiesOf } from '../../core/filer/served-volumes.ts'
import { takeoverProblem } from '../../core/pair/side-facts.ts'
import type { Side } from '../../core/pair/side.ts'

export function statusOf(
  config: FilerPodConfig,
  filer: Filer,
  connection: Connection,
  peers: { status(): PeerStatus[] },
): FilerStatus {
  const { pair } = filer
  return {
    filer: config.filer,
    incarnation: pair.incarnation,
    sides: [...pair.sides.values()].map((side) => sideStatus(config, side)),
    interconnects: connection
      .links()
      .map(({ name, state, roundTripMicroseconds, addresses, refusal, reason }) => ({
        name,
        state,
        roundTripMicroseconds: Math.round(roundTripMicroseconds),
        addresses: [...addresses],
        ...(refusal && { reason: refusal, message: reason }),
      })),
    aggregates: aggregates(config, filer),
    volumes: volumes(filer),
    peers: peers.status(),
    mirrors: filer.mirrors.status(),
    conversions: filer.conversions.status(),
    lastTakeover: filer.lastTakeover
      ? {
          side: filer.lastTakeover.side,
          filer: filer.lastTakeover.filer,
          reason: filer.lastTakeover.reason,
          time: new Date(filer.lastTakeover.atSeconds * 1000).toISOString(),
          ...(filer.lastTakeover.clientPauseMs === undefined
            ? {}
            : { clientPauseMilliseconds: filer.lastTakeover.clientPauseMs }),
        }
      : null,
    generation: filer.desired?.generation ?? 0,
    resting: filer.resting,
    voteReachable: pair.votes.reachable,
  }
}

function sideStatus(config: FilerPodConfig, side: Side): FilerStatus['sides'][number] {
  const { record, decision, losses } = side
  const owner = record?.owner ?? ''
  const serving = side.serving && side.opened
  const problem = takeoverProblem(side)
  const { reason, message } =
    side.openFailure !== ''
      ? { reason: 'CopyOutOfDate', message: side.openFailure }
      : serving && problem !== undefined
        ? problem
        : decision
  return {
    side: side.name,
    epoch: record?.epoch ?? 0,
    owner,
    mirrored: record?.mirrored ?? false,
    role: owner === config.filer ? 'Owner' : 'Standby',
    serving,
    takeoverPossible: problem === undefined,
    reason,
    message,
    resyncPercent: side.resyncPercent,
    ...(losses.refused === '' ? {} : { lossRefused: losses.refused }),
    ...(losses.dataFromSeconds === undefined ? {} : { dataFromSeconds: losses.dataFromSeconds }),
    ...(losses.accepted === undefined ? {} : { lossAccepted: losses.accepted }),
  }
}

function aggregates(config: FilerPodConfig, filer: Filer): FilerStatus['aggregates'] {
  return config.aggregates.map(({ name, filer: home }) => {
    const side = filer.pair.sides.get(home)
    const store = filer.stores.get(home)
    const opened = store?.aggregates.get(name)
    const sizes = opened?.sizes()
    const record = side?.record
    const joined = side?.mail.aggregates?.includes(name) !== false
    const own: PlexState = side && joined ? ownPlex(side) : 'Missing'
    const partner: PlexState = !joined
      ? 'Missing'
      : record?.mirrored === true
        ? 'Current'
        : side && side.resync !== 'NONE'
          ? 'Resyncing'
          : 'OutOfDate'
    const plexes: { filer: string; state: PlexState }[] = [{ filer: config.filer, state: own }]
    if (record?.owner === config.filer) plexes.push({ filer: config.partner, state: partner })
    return {
      name,
      id: `${config.pairUid}/${name}`,
      sizeBytes: sizes?.totalBytes ?? 0,
      usedBytes: sizes?.usedBytes ?? 0,
      plexes,
      devices: [...(store?.devices(name) ?? [])],
      waitingDevices: store?.growth.waiting(name) ?? [],
      ...unrepairable(opened),
    }
  })
}

/** What the filer that has the aggregate open knows to be lost of it, or of one of its volumes. */
function unrepairable(
  aggregate: FilerAggregate | undefined,
  volume?: number,
): { readonly unrepairableBlocks?: number } {
  const blocks = aggregate?.io.unrepairableBlocks((pvbn) => aggregate.space.isBusy(pvbn), volume) ?? 0
  return blocks === 0 ? {} : { unrepairableBlocks: blocks }
}

function ownPlex(side: Side): PlexState {
  if (side.unfit !== '') return 'Damaged'
  switch (side.mail.state) {
    case 'Complete':
      return side.ownsRecord || side.record?.mirrored === true ? 'Current' : 'OutOfDate'
    case 'Resyncing':
      return 'Resyncing'
    case 'Damaged':
      return 'Damaged'
    case 'LogLost':
      return 'OutOfDate'
    case 'New':
    case 'Formatting':
      return 'Missing'
  }
}

function volumes(filer: Filer): FilerStatus['volumes'] {
  const list: FilerStatus['volumes'] = []
  const seen = new Set<string>()
  for (const [side, store] of filer.stores) {
    const serving = filer.pair.sides.get(side)?.serving === true
    for (const [aggregate, opened] of store.aggregates) {
      for (const volume of opened.volumes()) {
        if (propertiesOf(volume).hidden === true) continue
        seen.add(volume.id)
        const failure = filer.volumes.failures.get(volume.id)
        list.push({
          id: volume.id,
          name: volume.name,
          aggregate,
          side,
          type: volume.type,
          sizeBytes: volume.sizeBytes,
          usedBytes: volume.used * 4096,
          snapshotUsedBytes: volume.snapshots.heldBlocks * 4096,
          ...unrepairable(opened, volume.index),
          snapshots: volume.snapshots.list().map(({ name, created, unique }) => ({
            name,
            created: new Date(created * 1000).toISOString(),
            usedBytes: unique * 4096,
          })),
          state: failure !== undefined ? 'Failed' : serving ? 'Ready' : 'Creating',
          reason: failure !== undefined ? 'Failed' : '',
          message: failure ?? '',
        })
      }
      for (const wanted of filer.desired?.volumes ?? []) {
        if (wanted.aggregate !== aggregate || seen.has(wanted.id)) continue
        // Its devices may be taken away when this says so.
        const removed = store.removalsInImage ? 'Removed' : 'Ready'
        list.push({
          id: wanted.id,
          name: wanted.name,
          aggregate,
          side,
          type: wanted.type,
          sizeBytes: wanted.sizeBytes,
          usedBytes: 0,
          snapshotUsedBytes: 0,
          snapshots: [],
          state: wanted.state === 'Removed' ? removed : 'Creating',
          reason: '',
          message: filer.volumes.failures.get(wanted.id) ?? '',
        })
      }
    }
  }
  return list
}

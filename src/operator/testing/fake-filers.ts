/** Filers for tests of the operator: administration services by address, whose status a test sets and whose orders it reads. */
import type { DesiredState, FilerStatus, SnapshotRequest } from '../../api/v1alpha1/filer-config.ts'
import type { AdminConnector, SnapshotAnswer } from '../admin-client.ts'

export class FakeFiler {
  status: FilerStatus
  readonly orders: DesiredState[] = []
  readonly snapshotOrders: SnapshotRequest[] = []
  /** Calls about snapshots that fail as if the connection had broken. */
  brokenCalls = 0
  readonly #watchers = new Set<(status: FilerStatus) => void>()

  constructor(status: FilerStatus) {
    this.status = status
  }

  /** Tells a new status to whoever watches. */
  tell(change: Partial<FilerStatus>): void {
    this.status = { ...this.status, ...change }
    for (const watcher of this.#watchers) watcher(this.status)
  }

  watch(watcher: (status: FilerStatus) => void): () => void {
    this.#watchers.add(watcher)
    watcher(this.status)
    return () => this.#watchers.delete(watcher)
  }

  /** As a filer does: a repeated order changes nothing more. */
  async snapshot(request: SnapshotRequest): Promise<SnapshotAnswer> {
    const known = this.snapshotOrders.some((o) => o.requestId === request.requestId)
    this.snapshotOrders.push(request)
    const { volumeId, op, snapshot: name } = request
    const volume = this.status.volumes.find((v) => v.id === volumeId)
    const done = { accepted: true, reason: '', message: '' }
    const refuse = (reason: string, message: string): SnapshotAnswer => ({ accepted: false, reason, message })
    const answer = (): SnapshotAnswer => {
      if (known) return done
      if (volume === undefined) return refuse('NoSuchVolume', `there is no volume ${volumeId}`)
      const isThere = volume.snapshots.some((s) => s.name === name)
      if (op !== 'Create' && !isThere) return refuse('NoSuchSnapshot', `there is no snapshot ${name}`)
      if (op === 'Create' && isThere) return refuse('SnapshotExists', `there is a snapshot ${name} already`)
      if (op === 'Restore') return done
      const others = volume.snapshots.filter((s) => s.name !== name)
      const made = { name, created: new Date().toISOString(), usedBytes: 4096 }
      const snapshots = op === 'Create' ? [...others, made] : others
      this.tell({
        volumes: this.status.volumes.map((v) => (v === volume ? { ...v, snapshots } : v)),
      })
      return done
    }
    const result = answer()
    if (this.brokenCalls > 0) {
      this.brokenCalls--
      throw new Error('UNAVAILABLE: the connection broke')
    }
    return result
  }

  /** As a filer does: volumes that are wanted come to be, those that are removed go. */
  order(desired: DesiredState): void {
    this.orders.push(desired)
    const volumes = desired.volumes.flatMap((v): FilerStatus['volumes'] => [
      {
        id: v.id,
        name: v.name,
        aggregate: v.aggregate,
        side: 'a',
        type: v.type,
        sizeBytes: v.sizeBytes,
        usedBytes: 4096,
        snapshotUsedBytes: 0,
        snapshots: this.status.volumes.find((known) => known.id === v.id)?.snapshots ?? [],
        state: v.state === 'Removed' ? 'Removed' : 'Ready',
        reason: '',
        message: '',
      },
    ])
    const kept = this.status.volumes
      .filter((v) => !volumes.some((n) => n.id === v.id))
      .map((v) => ({ ...v, state: v.state === 'Removed' ? v.state : ('Retained' as const) }))
    this.tell({ generation: desired.generation, volumes: [...kept, ...volumes] })
  }
}

export class FakeFilers {
  readonly #filers = new Map<string, FakeFiler>()

  /** At `address` (host:port) there is now a filer. */
  set(address: string, filer: FakeFiler | undefined): void {
    if (filer === undefined) this.#filers.delete(address)
    else this.#filers.set(address, filer)
  }

  readonly connect: AdminConnector = ({ address }) => ({
    apply: async (desired) => {
      this.#at(address).order(desired)
      return desired.generation
    },
    snapshot: async (request) => this.#at(address).snapshot(request),
    watch: async (onStatus, signal) => {
      const end = this.#at(address).watch(onStatus)
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      end()
    },
    close: () => undefined,
  })

  #at(address: string): FakeFiler {
    const filer = this.#filers.get(address)
    if (filer === undefined) throw new Error(`nobody answers at ${address}`)
    return filer
  }
}

/** The status of a filer of a pair that is well: both sides mirrored, each at home. */
export function wellStatus(filer: string, change: Partial<FilerStatus> = {}): FilerStatus {
  const side = (name: string): FilerStatus['sides'][number] => ({
    side: name,
    epoch: 1,
    owner: name,
    mirrored: true,
    role: name === filer ? 'Owner' : 'Standby',
    serving: name === filer,
    takeoverPossible: true,
    reason: '',
    message: '',
    resyncPercent: null,
  })
  return {
    filer,
    incarnation: 1,
    sides: [side('a'), side('b')],
    interconnects: [
      { name: 'default', state: 'Up', roundTripMicroseconds: 120, addresses: [`10.0.0.1:7400`] },
    ],
    aggregates: [
      {
        name: 'aggr1',
        id: 'x',
        sizeBytes: 2 ** 31,
        usedBytes: 2 ** 24,
        plexes: [
          { filer: 'a', state: 'Current' },
          { filer: 'b', state: 'Current' },
        ],
        devices: ['aggr1-d-0'],
        waitingDevices: [],
      },
    ],
    volumes: [],
    lastTakeover: null,
    generation: 0,
    voteReachable: true,
    ...change,
  }
}

/**
 * Orders about the snapshots of one volume: they wait for the next freeze, which takes them all, and are done when its consistency point is complete. An order that
 * is repeated meanwhile, with the same request, waits for the same consistency point.
 */

export interface MakeOrder {
  readonly name: string
  readonly requestId: string
  /** Seconds since the epoch. */
  readonly created: number
}

/** Who waits for the consistency point. */
export interface Waiting {
  readonly resolve: () => void
  readonly reject: (reason: Error) => void
}

type Asked<S> = { readonly make: MakeOrder } | { readonly remove: S }
export type SnapshotOrder<S> = Waiting & Asked<S>

/** The orders of a volume that is not served here any more: they were not carried out, or nobody knows. */
export class SnapshotLost extends Error {
  constructor() {
    super('the volume stopped being served before the snapshot was complete')
    this.name = 'SnapshotLost'
  }
}

export class SnapshotQueue<S> {
  private orders: SnapshotOrder<S>[] = []
  /** Orders that are not complete. */
  private readonly underWay = new Map<string, Promise<void>>()

  get length(): number {
    return this.orders.length
  }

  get makes(): readonly MakeOrder[] {
    return this.orders.flatMap((order) => ('make' in order ? [order.make] : []))
  }

  /** The same order, if it is under way. */
  same(key: string): Promise<void> | undefined {
    return this.underWay.get(key)
  }

  /** Resolves when it is carried out, rejects with SnapshotLost. `key` names it for one that is repeated; '' if none will be. */
  ask(key: string, what: Asked<S>): Promise<void> {
    const asked = new Promise<void>((resolve, reject) => this.orders.push({ ...what, resolve, reject }))
    if (key !== '') {
      this.underWay.set(key, asked)
      const forget = (): void => void this.underWay.delete(key)
      asked.then(forget, forget)
    }
    return asked
  }

  take(): readonly SnapshotOrder<S>[] {
    return this.orders.splice(0)
  }

  /** Nobody carries out what was asked for. */
  lose(): void {
    for (const { reject } of this.orders.splice(0)) reject(new SnapshotLost())
  }
}

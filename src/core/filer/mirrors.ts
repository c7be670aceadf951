/**
 * The mirrors of a filer: those of the sides that it owns live here, over the store of the side (store-mirrors.ts), and talk to the filers of other pairs. A mirror's source looks for the filer
 * that serves its destination among those that it was told of.
 */
import type { Message, ToDestination, ToSource } from '../mirror/messages.ts'
import type { AggregateStore } from './aggregate-store.ts'
import type { StoreMirroring } from './store-mirroring.ts'
import type { MirrorEnd } from './mirror-end.ts'
import { MirrorLink } from './mirror-link.ts'
import type { MirrorStatus } from '../mirror/status.ts'
import type { MirrorsContext, MirrorsOptions } from './mirrors-context.ts'
import type { DesiredMirror } from './served-volumes.ts'
import { StoreMirrors } from './store-mirrors.ts'

const TO_SOURCE: readonly string[] = [
  'resumed',
  'refused',
  'acknowledged',
  'taken',
  'complete',
  'frozen',
  'durable',
  'joined',
  'failed',
  'elsewhere',
  'willing',
  'reversed',
]

export class Mirrors implements MirrorsContext {
  readonly options: MirrorsOptions
  readonly link: MirrorLink
  readonly #stores = new Map<string, StoreMirrors>()
  desired: readonly DesiredMirror[] = []

  constructor(options: MirrorsOptions) {
    this.options = options
    this.link = new MirrorLink(options.peers, {
      message: (peer, message) => this.#message(peer, message),
      up: () => undefined,
      down: (peer) => {
        for (const store of this.#stores.values()) store.lost(peer)
      },
    })
  }

  /** For the store of a side that is being opened. */
  attach(side: string, store: AggregateStore): StoreMirroring {
    const mirrors = new StoreMirrors(this, side, store, {
      served: () => this.#stores.set(side, mirrors),
      closed: () => {
        if (this.#stores.get(side) === mirrors) this.#stores.delete(side)
      },
    })
    return mirrors
  }

  async reconcile(side: string): Promise<void> {
    await this.#stores.get(side)?.reconcile(this.desired)
  }

  /** The ends that are open here: for checkers. */
  *ends(): Generator<MirrorEnd> {
    for (const store of this.#stores.values()) yield* store.ends()
  }

  status(): MirrorStatus[] {
    return [...this.#stores.values()].flatMap((store) => store.status())
  }

  #message(peer: string, message: Message): void {
    const { head } = message
    if (TO_SOURCE.includes(head.type)) {
      for (const store of this.#stores.values()) store.fromDestination(peer, head as ToSource)
      return
    }
    const { mirror, session } = head as ToDestination
    for (const store of this.#stores.values()) if (store.fromSource(peer, message)) return
    this.link.send(peer, { type: 'elsewhere', mirror, session })
  }
}

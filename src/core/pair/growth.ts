/**
 * Devices and aggregates that are configured and not part of a served side yet: its owner asks the partner what it has, prepares what both have, lets a
 * consistency point take it in, and has both mailboxes remember new aggregates before anything is in them.
 *
 * Only while the side is served and mirrored, one attempt at a time. Nothing here is needed for what the side has already: an attempt that fails leaves
 * things as they are, and is repeated.
 *
 * Which aggregates a side has is what its owner says (hello, resync, `aggregates`); the standby remembers it. So a blank device of one that
 * the side has is a lost disk, never a new one.
 */
import type { Owner } from './owner.ts'
import type { Message } from './partner-link.ts'
import { reasonOf } from './partner-link.ts'
import type { Partnership } from './partnership.ts'
import { sizesOf } from './partnership.ts'
import type { Side } from './side.ts'
import type { AggregateOffer } from './side-copy.ts'

/** Between two attempts, when something waits. */
const RETRY_MS = 5000
/** Until a look at what a consistency point took in. */
const SOON_MS = 100

export class Growth {
  readonly #side: Side
  #running = false
  #notBefore = -Infinity

  constructor(side: Side) {
    this.#side = side
  }

  /** Asked at every tick. */
  check(): void {
    const { owner, context } = this.#side
    const partnership = owner?.partnership
    if (this.#running || !owner || !partnership || !this.#isCurrent(owner, partnership)) return
    if (!owner.store.growth.waits || context.env.clock.now() < this.#notBefore) return
    this.#running = true
    void this.#attempt(owner, partnership)
      .catch((error: unknown) => {
        context.env.log('warn', 'growth failed', { side: this.#side.name, cause: String(error) })
        return false
      })
      .then((soon) => {
        this.#running = false
        this.#notBefore = context.env.clock.now() + (soon ? SOON_MS : RETRY_MS)
      })
  }

  #isCurrent(owner: Owner, partnership: Partnership): boolean {
    const { owner: serving, opened, record } = this.#side
    return (
      serving === owner &&
      opened &&
      owner.partnership === partnership &&
      !partnership.dissolved &&
      record?.mirrored === true
    )
  }

  /** True if there is more to do soon. */
  async #attempt(owner: Owner, partnership: Partnership): Promise<boolean> {
    const { context, name } = this.#side
    const { growth } = owner.store
    if (growth.joined.length > 0) return this.#admit(owner, partnership, growth.joined)
    const reply = await context.link().request({ type: 'offer', side: name }, context.times.helloMs)
    if (!this.#isCurrent(owner, partnership)) return false
    const offers = reply?.['offers'] as readonly AggregateOffer[] | undefined
    if (!offers) {
      growth.refused(`the other filer does not say what it has: ${reasonOf(reply)}`)
      return false
    }
    partnership.offered = sizesOf(offers.flatMap(({ devices }) => devices))
    const wanted = await growth.prepare(offers, (device, blocks) => partnership.device(device, blocks))
    if (wanted && this.#isCurrent(owner, partnership)) owner.wantCp()
    return wanted
  }

  /** The partner's mailbox first, then the own one: nothing is in the aggregates until both have them. */
  async #admit(owner: Owner, partnership: Partnership, joined: readonly string[]): Promise<boolean> {
    const { context, name, record } = this.#side
    const { mailbox } = context
    const aggregates = [...owner.store.roots().map((root) => root.aggregate), ...joined].sort()
    if (!mailbox.hasRoom(name, aggregates)) {
      owner.store.growth.refused('the mailbox has no room for the name of another aggregate')
      return false
    }
    const reply = await context.link().request(
      {
        type: 'aggregates',
        side: name,
        epoch: record?.epoch ?? 0,
        incarnation: mailbox.incarnation,
        aggregates,
      },
      context.times.helloMs,
    )
    if (reply?.['ok'] !== true) {
      owner.store.growth.refused(`the other filer did not take note of it: ${reasonOf(reply)}`)
      return false
    }
    if (!this.#isCurrent(owner, partnership)) return false
    const durable = mailbox.changeSide(name, { aggregates })
    owner.store.growth.admit(joined, durable)
    await durable
    context.env.log('info', 'aggregates joined', { side: name, joined })
    return true
  }
}

/** Which aggregates the side has, in a message of its owner; nothing in one of an earlier version. */
export function aggregatesIn(message: Message): { aggregates?: readonly string[] } {
  const list = message['aggregates']
  return Array.isArray(list) ? { aggregates: list as string[] } : {}
}

/** The standby's half: what it has. */
export async function answerOffer(side: Side): Promise<Message> {
  return { type: 'reply', ok: true, offers: await side.copy.offer(side.mail.aggregates) }
}

/** The standby's half: it remembers which aggregates the side has. */
export async function answerAggregates(side: Side, message: Message): Promise<Message> {
  const { record, context, mail } = side
  const list = aggregatesIn(message)
  const fromOwner =
    record?.owner === context.partner &&
    record.epoch === message['epoch'] &&
    side.greeted &&
    mail.fence.incarnation === message['incarnation']
  if (!fromOwner || !list.aggregates) return { type: 'reply', ok: false, reason: 'OLD_EPOCH' }
  if (!context.mailbox.hasRoom(side.name, list.aggregates)) {
    return { type: 'reply', ok: false, reason: 'its mailbox has no room' }
  }
  await context.mailbox.changeSide(side.name, list)
  return { type: 'reply', ok: true }
}

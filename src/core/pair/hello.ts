/**
 * Hello: how an owner of a mirrored side and its standby make their copies equal before the owner serves, and again when the standby
 * restarts. And the other way to begin: alone, over the own copy.
 *
 * - The standby adopts the higher epoch, stops if it served, ends what an earlier owner wrote, raises its fence, and only then says what it has.
 * - The longer valid log wins: what is missing is fetched or sent, a placed batch is never rewritten. Every acknowledged record is in
 *   both logs of a mirrored side, so neither choice loses one (H2).
 * - Roots must be equal. If they are not, the copies cannot be made equal without a resync, and so not without ALONE.
 */
import { BLOCK_BYTES } from '../env/device.ts'
import { blocksOf, lastSeqOf } from '../nvlog/batch.ts'
import type { PlacedBatch } from '../nvlog/scan.ts'
import { readBatch, scanLog } from '../nvlog/scan.ts'
import { logRegionKey } from './regions.ts'
import { sizesOf } from './partnership.ts'
import { aggregatesIn } from './growth.ts'
import {
  hasNothing,
  makeOwner,
  newPartnership,
  openCopy,
  replay,
  sameRoots,
  startServing,
  refuseCopy,
} from './opening.ts'
import type { OpenedCopy } from './opening.ts'
import type { Message } from './partner-link.ts'
import type { Side } from './side.ts'
import { OlderCopy } from './side-copy.ts'
import type { RootFacts } from './side-copy.ts'
import type { SideRecord } from './vote.ts'

interface HelloReply extends Message {
  readonly ok: boolean
  readonly reason: string
  readonly incarnation: number
  readonly record: SideRecord | null
  readonly roots: readonly RootFacts[]
  readonly lastSeq: number
  /** Batches beyond what the asker has. */
  readonly beyond: readonly { readonly block: number; readonly bytes: number }[]
}

/** TAKE, CREATE or ALONE of this incarnation is recorded, grants are waited out: this copy is the side. */
export async function activateAlone(side: Side): Promise<void> {
  const opened = await openCopy(side)
  if (!opened) return
  if (!(await replay(side, opened.store, opened.scan.tail.batches))) return
  startServing(side, makeOwner(side, opened), 'alone')
}

async function ask(side: Side, lastSeq: number): Promise<HelloReply | undefined> {
  const { context } = side
  const reply = (await context.link().request(
    {
      type: 'hello',
      side: side.name,
      record: side.record,
      epoch: side.record?.epoch ?? 0,
      incarnation: context.mailbox.incarnation,
      aggregates: side.aggregates,
      lastSeq,
    },
    context.times.helloMs,
  )) as HelloReply | undefined
  if (!reply) return undefined
  if (reply.record) side.learn(reply.record)
  if (!reply.ok) {
    context.env.log('warn', 'hello refused', { side: side.name, reason: reply.reason })
    if (reply.reason === 'INCOMPLETE') side.helloRefused = true
    return undefined
  }
  return reply
}

/** The record says that both copies are complete: equal them, then serve from both. */
export async function activateByHello(side: Side): Promise<void> {
  const opened = await openCopy(side)
  if (!opened) return
  const next = await equalCopies(side, opened)
  if (!next || !side.ownsRecord) {
    await opened.store.close()
    return
  }
  if (!(await replay(side, next.store, next.scan.tail.batches))) return
  const owner = makeOwner(side, next)
  const partnership = newPartnership(side, next.incarnation)
  partnership.offered = sizesOf(next.devices)
  owner.partnership = partnership
  // From here on ALONE, once recorded, ends every wait for the partner.
  side.owner = owner
  const missing = next.scan.tail.batches.filter((batch) => lastSeqOf(batch.header) > next.partnerLastSeq)
  let problem: string | undefined
  try {
    problem = await owner.mirrorFromStart(partnership, next.partnerLastSeq, async () => {
      for (const batch of missing) {
        const { bytes } = await readBatch(side.logDevice, batch)
        await partnership.write(batch.block, bytes)
      }
    })
  } catch (error) {
    if (!(error instanceof OlderCopy) && !partnership.dissolved) throw error
    await side.stopServing()
    if (error instanceof OlderCopy) await refuseCopy(side, error.message)
    return
  }
  if (problem !== undefined) {
    side.context.env.log('warn', 'partner cannot be attached', { side: side.name, cause: problem })
    side.helloRefused = true
    await side.stopServing()
    return
  }
  if (!owner.stopped) startServing(side, owner, 'hello')
}

async function equalCopies(
  side: Side,
  opened: OpenedCopy,
): Promise<(OpenedCopy & { incarnation: number; partnerLastSeq: number; devices: unknown }) | undefined> {
  const { store, scan } = opened
  const reply = await ask(side, scan.tail.lastSeq)
  if (!reply) return undefined
  if (!side.context.broken.assumeEqualRoots && !sameRoots(store.roots(), reply.roots)) {
    side.context.env.log('warn', 'roots differ', {
      side: side.name,
      own: store.roots(),
      partner: reply.roots,
    })
    const behind = isBehind(store.roots(), reply.roots) && side.context.broken.olderRoot !== true
    if (behind) await side.isOfEarlierTime('the other copy has a later root')
    else side.helloRefused = true
    return undefined
  }
  if (reply.lastSeq <= scan.tail.lastSeq) {
    return { ...opened, ...partnerOf(reply) }
  }
  if (!(await fetchBatches(side, reply))) return undefined
  const again = await scanLog(side.logDevice, side.origin, side.context.env.crc32, store.covers, store.epoch)
  if (!again.ok || again.tail.lastSeq !== reply.lastSeq) {
    side.helloRefused = true
    return undefined
  }
  return { store, scan: again, ...partnerOf(reply) }
}

/**
 * The owner's root is written before the standby's. A standby with a later one proves that this copy was put back to an earlier time (a disk restored from a
 * backup, a snapshot of a machine), or that its newest root cannot be read: what was acknowledged since is over there.
 */
function isBehind(own: readonly RootFacts[], theirs: readonly RootFacts[]): boolean {
  return theirs.some((their) =>
    own.some(({ aggregate, cp }) => aggregate === their.aggregate && cp < their.cp),
  )
}

function partnerOf(reply: HelloReply): { incarnation: number; partnerLastSeq: number; devices: unknown } {
  return { incarnation: reply.incarnation, partnerLastSeq: reply.lastSeq, devices: reply['devices'] }
}

async function fetchBatches(side: Side, reply: HelloReply): Promise<boolean> {
  const { context } = side
  const channel = context.link().channel('nvlog')
  if (!channel) return false
  for (const { block, bytes } of reply.beyond) {
    try {
      const size = blocksOf(bytes) * BLOCK_BYTES
      const region = logRegionKey(context.env, side.name)
      const batch = await channel.read(region, block * BLOCK_BYTES, size, side.fence())
      await side.logDevice.write(block, [batch])
    } catch (error) {
      context.env.log('warn', 'log of the partner cannot be read', { side: side.name, cause: String(error) })
      return false
    }
  }
  return true
}

/**
 * The standby restarted while this owner serves. What it had placed but not flushed may be gone: with a consistency point
 * under way its part cannot be known whole, and ALONE must end the matter. Else root and log say everything.
 */
export async function regreet(side: Side): Promise<void> {
  const { owner } = side
  const partnership = owner?.partnership
  if (!owner || !partnership || owner.stopped) return
  if (owner.cpRunning || partnership.unflushed) {
    side.helloRefused = true
    side.kick()
    return
  }
  const reply = await ask(side, owner.log.durable)
  if (owner.stopped || partnership.dissolved) return
  if (!reply) {
    side.pause(100)
    return
  }
  if (!sameRoots(owner.store.roots(), reply.roots) || reply.lastSeq < owner.log.durable)
    side.helloRefused = true
  else partnership.greeted(reply.incarnation, reply['devices'])
  side.kick()
}

/** The standby's half. */
export async function answerHello(side: Side, message: Message): Promise<Message> {
  const { context } = side
  const refuse = (reason: string): Message => ({ type: 'reply', ok: false, reason, record: side.record })
  const asked = message['record'] as SideRecord | null
  if (asked) side.learn(asked)
  const epoch = message['epoch'] as number
  const incarnation = message['incarnation'] as number
  const current = (): boolean => side.record?.epoch === epoch && side.record.owner === context.partner
  if (!current()) return refuse('OLD_EPOCH')
  return side.exclusive(async () => {
    await side.stopServing()
    if (!current()) return refuse('OLD_EPOCH')
    if (side.mail.state !== 'Complete') return refuse('INCOMPLETE')
    // A second incarnation of the owner is not believed while the first may still be reading.
    const now = context.env.clock.now()
    if (incarnation !== side.mail.fence.incarnation && side.lastGrantAt !== undefined) {
      if (now - side.lastGrantAt < context.times.grantWaitMs) return refuse('LEASE')
    }
    await context.mailbox.changeSide(side.name, {
      fence: { epoch, incarnation },
      ...aggregatesIn(message),
    })
    await side.frames.drain()
    const found = await describe(side, message['lastSeq'] as number)
    if (!found) return refuse('INCOMPLETE')
    side.standbyLog.reset(found.lastSeq)
    side.greeted = true
    return {
      type: 'reply',
      ok: true,
      incarnation: context.mailbox.incarnation,
      record: side.record,
      devices: side.deviceSizes(),
      ...found,
    }
  })
}

async function describe(
  side: Side,
  askersLastSeq: number,
): Promise<
  { roots: readonly RootFacts[]; lastSeq: number; beyond: { block: number; bytes: number }[] } | undefined
> {
  const inspection = await side.copy.inspect(side.mail.aggregates)
  if (inspection.state !== 'Complete') {
    side.context.env.log('error', 'own copy is not complete', { side: side.name, cause: inspection.message })
    return undefined
  }
  if (hasNothing(side)) return { roots: [], lastSeq: 0, beyond: [] }
  const covers = Math.min(...inspection.roots.map((root) => root.covers))
  const epoch = Math.min(...inspection.roots.map((root) => root.epoch))
  const scan = await scanLog(
    side.logDevice,
    side.origin,
    side.context.env.crc32,
    Number.isFinite(covers) ? covers : 0,
    Number.isFinite(epoch) ? epoch : 0,
  )
  if (!scan.ok) {
    side.context.env.log('error', 'own log is damaged', { side: side.name, cause: scan.message })
    return undefined
  }
  const beyond = (batch: PlacedBatch): boolean => lastSeqOf(batch.header) > askersLastSeq
  return {
    roots: inspection.roots,
    lastSeq: scan.tail.lastSeq,
    beyond: scan.tail.batches
      .filter(beyond)
      .map((batch) => ({ block: batch.block, bytes: batch.header.bytes })),
  }
}

/**
 * A planned move of a side to the other filer (giveback, maintenance, drain, upgrade): nothing is lost, and no lease is waited out.
 *
 * The owner flushes with a consistency point, holds new operations, flushes the rest, so that both copies are equal and the logs empty; gives
 * up its lease; asks the standby to TAKE with mirrored = true. The new owner's hello ends it. If nothing came of it in time, the old owner goes on
 * with a new lease: a TAKE that is applied after all then meets a hello like any restart, and the longer log wins.
 */
import type { Message } from './partner-link.ts'
import { reasonOf } from './partner-link.ts'
import type { Side } from './side.ts'
import type { MoveAnswer } from './side-context.ts'

const refuse = (reason: string, message: string): MoveAnswer => ({ accepted: false, reason, message })

export async function handOver(side: Side): Promise<MoveAnswer> {
  const { context, owner, record } = side
  if (!owner || owner.stopped || !record) return refuse('NotOwner', 'this filer does not serve the side')
  if (!record.mirrored) return refuse('NotRedundant', 'the other copy is not current')
  const { epoch } = record
  const still = (): boolean => side.owner === owner && !owner.stopped && side.record?.epoch === epoch
  // While nothing is held: the long part.
  await owner.cpNow()
  if (!still()) return refuse('Moved', 'the side changed meanwhile')
  owner.hold()
  try {
    await owner.log.flushed(owner.log.lastSeq)
    owner.check()
    await owner.cpNow()
    await owner.cpIdle()
    if (!still()) return refuse('Moved', 'the side changed meanwhile')
    side.giveUpLease()
    const reply = await context.link().request(
      {
        type: 'handover',
        side: side.name,
        epoch,
        lastSeq: owner.log.lastSeq,
      },
      context.times.handoverMs,
    )
    if (reply?.['ok'] !== true) return refuse('PartnerRefused', reasonOf(reply))
    if (await movedWithin(side, epoch, context.times.handoverMs))
      return { accepted: true, reason: '', message: '' }
    return refuse('TimedOut', 'the other filer did not take the side in time')
  } finally {
    // The lease comes back with the next heartbeat, if the side is still ours.
    owner.resume()
  }
}

async function movedWithin(side: Side, epoch: number, limitMs: number): Promise<boolean> {
  const { clock } = side.context.env
  const end = clock.now() + limitMs
  while (clock.now() < end) {
    if (side.record?.epoch !== epoch) return !side.ownsRecord
    await new Promise<void>((resolve) => clock.after(10, resolve))
  }
  return false
}

/** The standby's half: answers at once; the vote and hello follow. */
export function answerHandOver(side: Side, message: Message): Promise<Message> {
  const epoch = message['epoch'] as number
  const lastSeq = message['lastSeq'] as number
  const asked = side.lastGrantAt
  const allowed = (): boolean =>
    !side.context.ending() &&
    side.record?.epoch === epoch &&
    !side.ownsRecord &&
    side.mail.state === 'Complete' &&
    side.greeted &&
    side.lastGrantAt === asked &&
    side.standbyLog.lastSeq === lastSeq
  if (!allowed()) {
    if (side.context.ending()) return Promise.resolve({ type: 'reply', ok: false, reason: 'ending, too' })
    const reason = `standby has ${side.standbyLog.lastSeq ?? 'no log'}, owner ${lastSeq}`
    return Promise.resolve({ type: 'reply', ok: false, reason })
  }
  side.pausedSince = side.context.env.clock.now()
  void side.voting.takeHandOver(allowed)
  return Promise.resolve({ type: 'reply', ok: true })
}

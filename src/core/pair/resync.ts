/**
 * Filling the partner's copy, at its owner and at the target.
 *
 * The target marks itself resyncing, durably, before its first block is overwritten, and empties its log: from then on it is worth
 * nothing (H7). The owner copies what is in use, then one CP goes to both, and from its freeze on every batch. The target's mark goes when
 * its root is there; the right to take over comes only with JOIN.
 */
import { formatLog } from '../nvlog/log-device.ts'
import { aggregatesIn } from './growth.ts'
import { newPartnership, sameRoots } from './opening.ts'
import type { Message } from './partner-link.ts'
import { reasonOf } from './partner-link.ts'
import type { Owner } from './owner.ts'
import type { Partnership } from './partnership.ts'
import { sizesOf } from './partnership.ts'
import type { Side } from './side.ts'
import type { RootFacts } from './side-copy.ts'
import type { SideRecord } from './vote.ts'

/** The owner's half; ends in `resync` DONE, or is dropped and tried again after a pause. */
export async function runResync(side: Side): Promise<void> {
  const { context, owner } = side
  const { env } = context
  if (!owner) return
  const abandon = (cause: string): void => {
    if (side.owner !== owner || side.resync !== 'RUNNING') return
    env.log('warn', 'resync given up', { side: side.name, cause })
    side.dropResync()
    side.kick()
  }
  try {
    const reply = await context.link().request(
      {
        type: 'resyncStart',
        side: side.name,
        record: side.record,
        incarnation: context.mailbox.incarnation,
        aggregates: side.aggregates,
      },
      context.times.helloMs,
    )
    const record = reply?.['record'] as SideRecord | undefined
    if (record) side.learn(record)
    if (side.owner !== owner || owner.stopped || side.resync !== 'RUNNING') return
    if (reply?.['ok'] !== true) return abandon(reasonOf(reply))
    env.log('info', 'resync begins', { side: side.name })
    side.resyncPercent = 0
    const partnership = newPartnership(side, reply['incarnation'] as number)
    partnership.offered = sizesOf(reply['devices'])
    await dropEmpty(side, owner, partnership)
    if (side.owner !== owner || owner.stopped) return
    let answer = 'the partner was lost'
    const confirm = async (): Promise<boolean> => {
      const { incarnation } = context.mailbox
      const end = await context
        .link()
        .request(
          { type: 'resyncEnd', side: side.name, incarnation, roots: owner.store.roots() },
          context.times.helloMs,
        )
      answer = reasonOf(end)
      return end?.['ok'] === true
    }
    const joined = await owner.resync(partnership, (percent) => (side.resyncPercent = percent), confirm)
    if (side.owner !== owner || owner.stopped) return
    if (!joined) return abandon(answer)
    side.resync = 'DONE'
    side.resyncPercent = null
    env.log('info', 'resync ended', { side: side.name })
    side.kick()
  } catch (error) {
    abandon(error instanceof Error ? error.message : String(error))
  }
}

/**
 * What the target is configured without, and nothing is in, leaves the side: else a pair could never be rid of an aggregate, for one filer is
 * configured anew before the other. The mailbox first: a filer that opened it again beside the others would miss the log that these let go of.
 */
async function dropEmpty(side: Side, owner: Owner, { offered }: Partnership): Promise<void> {
  if (offered === undefined) return
  const names = owner.store.leaving((device) => offered.has(device))
  if (names.length === 0) return
  const { mailbox, env, times } = side.context
  const roots = owner.store.roots().map((root) => root.aggregate)
  const aggregates = roots.filter((name) => !names.includes(name)).sort()
  await mailbox.changeSide(side.name, { aggregates })
  owner.store.left(names)
  // The target, too, before it may take over: of a side that has nothing left it must not ask for the log of what it had.
  const reply = await side.context.link().request(
    {
      type: 'aggregates',
      side: side.name,
      epoch: side.record?.epoch ?? 0,
      incarnation: mailbox.incarnation,
      aggregates,
    },
    times.helloMs,
  )
  if (reply?.['ok'] !== true) throw new Error(reasonOf(reply))
  env.log('info', 'aggregates left', { side: side.name, names })
}

const refuse = (side: Side, reason: string): Message => ({
  type: 'reply',
  ok: false,
  reason,
  record: side.record,
})

function fromOwner(side: Side): boolean {
  const { record, context } = side
  return record?.owner === context.partner && !record.mirrored
}

/** The target's half, begin. */
export async function answerResyncStart(side: Side, message: Message): Promise<Message> {
  const { context } = side
  const record = message['record'] as SideRecord | null
  if (record) side.learn(record)
  return side.exclusive(async () => {
    await side.stopServing()
    if (!record || side.record?.epoch !== record.epoch || !fromOwner(side)) return refuse(side, 'OLD_EPOCH')
    const incarnation = message['incarnation'] as number
    side.greeted = false
    const damaged = side.mail.state === 'Damaged'
    await context.mailbox.changeSide(side.name, {
      state: 'Resyncing',
      fence: { epoch: record.epoch, incarnation },
      ...aggregatesIn(message),
    })
    await side.frames.drain()
    const problem = await side.copy.prepareTarget(damaged, side.mail.aggregates)
    if (problem !== undefined) return refuse(side, problem)
    side.logDurability.forget()
    const logId = await formatLog(side.logDevice, side.origin, context.env)
    await context.mailbox.changeSide(side.name, { logId })
    side.standbyLog.reset(undefined)
    side.greeted = true
    return {
      type: 'reply',
      ok: true,
      incarnation: context.mailbox.incarnation,
      devices: side.deviceSizes(),
    }
  })
}

/** The target's half, end: its own look at its devices decides, not the owner's word. */
export async function answerResyncEnd(side: Side, message: Message): Promise<Message> {
  const { context } = side
  return side.exclusive(async () => {
    if (!fromOwner(side) || !side.greeted || side.mail.state !== 'Resyncing')
      return refuse(side, 'NOT_RESYNCING')
    if (message['incarnation'] !== side.mail.fence.incarnation) return refuse(side, 'OTHER_INCARNATION')
    const inspection = await side.copy.inspect(side.mail.aggregates)
    if (inspection.state !== 'Complete') return refuse(side, inspection.message)
    const wanted = message['roots'] as readonly RootFacts[]
    if (!sameRoots(inspection.roots, wanted)) return refuse(side, 'roots differ')
    await context.mailbox.changeSide(side.name, { state: 'Complete' })
    side.standbyLog.covered(wanted.length === 0 ? 0 : Math.min(...wanted.map((root) => root.covers)))
    return { type: 'reply', ok: true }
  })
}

/**
 * Opening this filer's copy for service: the newest root of the own plexes, the log beyond it, replayed through the ordinary path.
 * Replay is repeatable: until a consistency point of the new owner is complete, root and log stay as they are (H8).
 */
import { DamagedBlock } from '../fs/block-store.ts'
import type { PlacedBatch, ScanResult } from '../nvlog/scan.ts'
import { formatLog } from '../nvlog/log-device.ts'
import { newestRootCp, readBatch, scanLog } from '../nvlog/scan.ts'
import { DeviceError } from '../env/device.ts'
import { Owner } from './owner.ts'
import { Partnership } from './partnership.ts'
import { logRegionKey, plexRegionKey } from './regions.ts'
import type { Message } from './partner-link.ts'
import type { Side } from './side.ts'
import { oldestCp } from './side-copy.ts'
import type { Inspection, RootFacts, SideStore } from './side-copy.ts'

export interface OpenedCopy {
  readonly store: SideStore
  readonly scan: ScanResult & { readonly ok: true }
}

/**
 * All aggregates have left the side: there is nothing that a log record could be about. (One whose aggregates are only not configured, by mistake, is
 * not such a side: its log stays as it is, and says so.)
 */
export function hasNothing(side: Side): boolean {
  return side.mail.aggregates?.length === 0
}

export async function openCopy(side: Side): Promise<OpenedCopy | undefined> {
  const { env } = side.context
  let store: SideStore
  try {
    store = await side.copy.open(side.mail.aggregates)
  } catch (error) {
    await refuseCopy(side, error instanceof Error ? error.message : String(error))
    return undefined
  }
  const { covers, epoch } = store
  if (hasNothing(side) || side.mail.state === 'LogLost') {
    if (side.mail.state === 'LogLost')
      env.log('warn', 'served without its lost log', { side: side.name, covers })
    const logId = await formatLog(side.logDevice, side.origin, env)
    await side.context.mailbox.changeSide(side.name, { logId, state: 'Complete' })
  }
  const scan = await scanLog(side.logDevice, side.origin, env.crc32, covers, epoch)
  if (!scan.ok) {
    await store.close()
    await refuseCopy(side, `its log is damaged: ${scan.message}`)
    return undefined
  }
  return { store, scan }
}

/**
 * The own copy cannot be used. While the partner has a complete one too, this one counts as lost from now on: the partner takes the side over and
 * fills it. Else it stays what it is, since there is no other, and is tried again after a while.
 */
export async function refuseCopy(side: Side, cause: string): Promise<void> {
  const { env, mailbox } = side.context
  side.openFailure = cause
  env.log('error', 'copy cannot be opened', { side: side.name, cause })
  if (side.partnerIsComplete) await mailbox.changeSide(side.name, { state: 'Damaged' })
}

/** False if the copy cannot be used, and the store is closed: the log has a record of something that is not here, or needs a damaged block. */
export async function replay(
  side: Side,
  store: SideStore,
  batches: readonly PlacedBatch[],
): Promise<boolean> {
  try {
    return await replayAll(side, store, batches)
  } catch (error) {
    if (!(error instanceof DamagedBlock)) throw error
    await store.close()
    await refuseCopy(side, `the log cannot be replayed: ${error.message}`)
    return false
  }
}

async function replayAll(side: Side, store: SideStore, batches: readonly PlacedBatch[]): Promise<boolean> {
  const { env } = side.context
  let count = 0
  for (const batch of batches) {
    const { records } = await readBatch(side.logDevice, batch)
    for (const record of records) {
      if (record.seq <= store.covers) continue
      const problem = await store.replay(record)
      if (problem !== undefined) {
        side.openFailure = `log: ${problem}`
        env.log('error', 'log cannot be replayed', { side: side.name, cause: problem })
        await store.close()
        return false
      }
      count += 1
    }
  }
  if (count > 0) env.log('info', 'log replayed', { side: side.name, records: count })
  return true
}

/** The partner's copy as this filer, the owner, writes it. */
export function newPartnership(side: Side, incarnation: number): Partnership {
  const { context } = side
  const { env } = context
  return new Partnership(
    env,
    context.link(),
    () => side.fence(),
    incarnation,
    { log: logRegionKey(env, side.name), device: (name) => plexRegionKey(env, name) },
    {
      fenced: (fence) => {
        // The partner may have seen our own JOIN applied before its answer reached us.
        if (side.joinAsked) return side.voting.refresh()
        side.lose(`refused by fence ${fence?.epoch ?? '?'}/${fence?.incarnation ?? '?'}`)
        side.voting.refresh()
      },
      changed: () => side.kick(),
    },
  )
}

/**
 * The own copy cannot be written. A disk that fails takes only this copy with it: the partner is asked to take the side, and fills it again. Anything
 * else, or without a partner to take it, ends the process.
 */
function copyFailed(side: Side, cause: string, error: unknown): void {
  const { context } = side
  if (!(error instanceof DeviceError) || !side.partnerIsComplete) return context.fatal(cause, error)
  context.env.log('error', 'own copy failed; the partner is asked to take over', {
    side: side.name,
    cause: `${cause}: ${error.message}`,
  })
  context.mailbox.changeSide(side.name, { state: 'Resyncing' }).catch((failure: unknown) => {
    context.fatal('mailbox cannot be written', failure)
  })
  side.lose(cause)
  side.kick()
}

/** An owner over a replayed store; not serving yet. */
export function makeOwner(side: Side, { store, scan }: OpenedCopy): Owner {
  const { context } = side
  const owner = new Owner(
    context.env,
    store,
    side.logDevice,
    side.origin,
    scan.tail.position,
    side.lease,
    {
      aloneNow: () => side.aloneNow(),
      fence: () => side.fence(),
      fatal: (cause, error) => copyFailed(side, cause, error),
      verifyAlone: () => context.mailbox.verify(),
      confirm: () => confirmReads(side),
      confirms: () => context.policy().reads === 'Confirmed',
      answered: () => side.answered(),
      damaged: (cause, contradicts) => side.refuse(cause, contradicts),
      afterCp: () => side.kick(),
    },
    context.broken,
  )
  if (side.losses.accepted) store.lossAccepted(side.losses.accepted.epoch)
  return owner
}

/** Asks the standby whether it stands by still: what was read before it said so was current. */
async function confirmReads(side: Side): Promise<boolean> {
  const { record, context } = side
  const message = { type: 'confirm', side: side.name, epoch: record?.epoch ?? 0 }
  const reply = await context.link().request(message, context.times.leaseMs)
  return reply?.['ok'] === true && side.record?.epoch === record?.epoch
}

/** The standby's half: nobody else served the side up to now, and nobody will before this filer has learned of a later record. */
export function answerConfirm(side: Side, message: Message): Promise<Message> {
  const { record } = side
  const epoch = message['epoch'] as number
  const ok = side.standsBy(epoch)
  return Promise.resolve({ type: 'reply', ok, reason: ok ? '' : 'OLD_EPOCH', record })
}

export function startServing(side: Side, owner: Owner, reason: string): void {
  const { context } = side
  side.owner = owner
  side.greeted = false
  side.resync = 'NONE'
  owner.begin()
  context.env.log('info', 'serving', { side: side.name, epoch: side.record?.epoch ?? 0, reason })
  context.serving(side.name, side.record?.epoch ?? 0, reason)
}

/**
 * The log knows of a newer root than the devices have, while the other copy counts too: this one is worth nothing then, for what the lost image freed may
 * be written over. The only copy there is stays what it is; its log says whether anything is missing.
 */
export async function lostRoot(side: Side, inspection: Inspection): Promise<boolean> {
  if (side.context.broken.olderRoot === true) return false
  if (side.record?.mirrored !== true || inspection.state !== 'Complete') return false
  const known = await newestRootCp(side.logDevice, side.origin, side.context.env.crc32)
  return oldestCp(inspection.roots) < known
}

export function sameRoots(one: readonly RootFacts[], two: readonly RootFacts[]): boolean {
  const text = (roots: readonly RootFacts[]): string =>
    roots
      .map((root) => `${root.aggregate}/${root.cp}/${root.epoch}/${root.covers}/${root.digest}`)
      .sort()
      .join(' ')
  return text(one) === text(two)
}

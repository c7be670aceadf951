/**
 * The first copy of a new side, at its home filer: empty aggregates, an empty log. Repeatable after a crash: until a record
 * exists, nobody has seen it.
 */
import { formatLog } from '../nvlog/log-device.ts'
import type { Side } from './side.ts'

export async function formatSide(side: Side): Promise<void> {
  const { context } = side
  const inspection = await side.copy.inspect()
  // A side without aggregates has devices neither blank nor otherwise.
  const blank =
    inspection.state === 'Blank' || (inspection.state === 'Complete' && inspection.roots.length === 0)
  if (side.mail.state === 'New' && !blank) {
    // Data that this filer has no memory of: never formatted over (H9).
    side.openFailure =
      inspection.state === 'Complete'
        ? 'the devices hold a copy, but the log volume does not know of it'
        : inspection.message
    context.env.log('error', 'devices are not blank', { side: side.name, cause: side.openFailure })
    side.pause(5000)
    return
  }
  await context.mailbox.changeSide(side.name, { state: 'Formatting' })
  await side.copy.format()
  const logId = await formatLog(side.logDevice, side.origin, context.env)
  await context.mailbox.changeSide(side.name, {
    state: 'Complete',
    logId,
    aggregates: side.copy.aggregates,
  })
}

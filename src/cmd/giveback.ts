/** `tandem giveback`: every filer serves its own volumes again. */
import { withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, TIMEOUT_FLAG, openTarget } from '../embedded/cli/connection.ts'
import { bringHome, pauseText } from '../embedded/cli/pair-moves.ts'
import { parseSeconds } from '../embedded/cli/wait.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'giveback',
      summary: 'give a filer its volumes back (ends spec.maintenance, writes spec.takeover.givebackEpoch)',
      operands: 'PAIR',
      operandsMin: 1,
      operandsMax: 1,
      flags: { timeout: TIMEOUT_FLAG, state: STATE_FLAG, namespace: NAMESPACE_FLAG },
      notes:
        'It happens as soon as both copies are current. Exit status 124: asked for, and not done in time; if the epoch has moved by then, say it again.',
    },
    args,
    async (parsed) => {
      const [name = ''] = parsed.operands
      const timeoutMs = parseSeconds(parsed.text('timeout') ?? '30s') * 1000
      const end = await bringHome({ ...(await openTarget(parsed)), name }, timeoutMs)
      if (end.state === 'Moved') {
        console.log(`each filer of pair ${name} serves its own volumes; ${pauseText(end.pauseMilliseconds)}`)
        return 0
      }
      console.error(`tandem giveback: time is up: ${end.message}`)
      return 124
    },
  )
}

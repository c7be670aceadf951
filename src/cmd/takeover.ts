/** `tandem takeover`: the partner serves a filer's volumes until `tandem giveback` (spec.maintenance). */
import { withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, TIMEOUT_FLAG, openTarget } from '../embedded/cli/connection.ts'
import { moveAway, pauseText } from '../embedded/cli/pair-moves.ts'
import { parseSeconds } from '../embedded/cli/wait.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'takeover',
      summary: 'have the partner serve the volumes of a filer, until giveback (writes spec.maintenance)',
      operands: 'PAIR FILER',
      operandsMin: 2,
      operandsMax: 2,
      flags: { timeout: TIMEOUT_FLAG, state: STATE_FLAG, namespace: NAMESPACE_FLAG },
      notes:
        'Also when FILER is lost and spec.takeover.mode is Manual. Exit status 75: not now, because the partner could not take over without loss. 124: asked for, and not done in time.',
    },
    args,
    async (parsed) => {
      const [name = '', filer = ''] = parsed.operands
      const timeoutMs = parseSeconds(parsed.text('timeout') ?? '30s') * 1000
      const end = await moveAway({ ...(await openTarget(parsed)), name }, filer, timeoutMs)
      if (end.state === 'Moved') {
        console.log(`the partner serves filer ${filer} of pair ${name}; ${pauseText(end.pauseMilliseconds)}`)
        return 0
      }
      const what = end.state === 'NotNow' ? 'not now' : 'time is up, it stays asked for'
      console.error(`tandem takeover: ${what}: ${end.message}`)
      return end.state === 'NotNow' ? 75 : 124
    },
  )
}

/** `tandem apply`: server-side apply of manifests. */
import { applyManifests, operatorRefusals } from '../embedded/cli/apply.ts'
import { UsageError, withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget } from '../embedded/cli/connection.ts'
import { readManifests } from '../embedded/cli/manifests.ts'

const VERDICT_WITHIN_MS = 5000

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'apply',
      summary: 'create or change objects from manifests',
      operands: '',
      operandsMin: 0,
      operandsMax: 0,
      flags: {
        filename: {
          kind: 'texts',
          short: 'f',
          value: 'FILE',
          meaning: 'a file, a folder, or - (may be repeated)',
        },
        state: STATE_FLAG,
        namespace: NAMESPACE_FLAG,
      },
      notes:
        'Exit status 1: at least one object was refused; the message is that of the rule, and the others are applied.',
    },
    args,
    async (parsed) => {
      const files = parsed.texts('filename')
      if (files.length === 0) throw new UsageError('what? Say -f FILE')
      const manifests = readManifests(files)
      const { api, namespace } = await openTarget(parsed)
      const { lines, refusals: ofServer, applied } = await applyManifests(api, manifests, namespace)
      for (const line of lines) console.log(line)
      const refusals = [...ofServer, ...(await operatorRefusals(api, applied, VERDICT_WITHIN_MS))]
      for (const refusal of refusals) console.error(`tandem apply: ${refusal}`)
      return refusals.length === 0 ? 0 : 1
    },
  )
}

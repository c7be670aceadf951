/** `tandem status`: pairs at a glance. */
import { FILER_PAIRS, FILER_VOLUMES } from '../edge/kube/resources.ts'
import { withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget } from '../embedded/cli/connection.ts'
import { pairStatus } from '../embedded/cli/pair-status.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'status',
      summary: 'show a pair: who serves what, and whether it could lose a filer',
      operands: '[PAIR]',
      operandsMin: 0,
      operandsMax: 1,
      flags: { state: STATE_FLAG, namespace: NAMESPACE_FLAG },
    },
    args,
    async (parsed) => {
      const { api, namespace } = await openTarget(parsed)
      const [name] = parsed.operands
      const pairs =
        name === undefined
          ? (await api.list(FILER_PAIRS, { namespace })).items
          : [await api.get(FILER_PAIRS, namespace, name)]
      const { items: volumes } = await api.list(FILER_VOLUMES, { namespace })
      if (pairs.length === 0) console.error(`no pair in namespace ${namespace}`)
      const texts = pairs.map((pair) =>
        pairStatus(
          pair,
          volumes.filter(
            (volume) => (volume['spec'] as { pairName?: string }).pairName === pair.metadata.name,
          ),
          Date.now(),
        ),
      )
      if (texts.length > 0) console.log(texts.join('\n\n'))
      return 0
    },
  )
}

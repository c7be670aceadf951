/** `tandem giveback`: everything goes home now, if it was decided on what status says now. */
import { KubeError } from '../edge/kube/api.ts'
import { FILER_PAIRS } from '../edge/kube/resources.ts'
import { withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget } from '../embedded/cli/connection.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'giveback',
      summary: 'give a filer its volumes back (writes spec.takeover.givebackEpoch)',
      operands: 'PAIR',
      operandsMin: 1,
      operandsMax: 1,
      flags: { state: STATE_FLAG, namespace: NAMESPACE_FLAG },
      notes:
        'It happens as soon as both copies are current; if the epoch moves before, nothing happens and it may be said again.',
    },
    args,
    async (parsed) => {
      const [name = ''] = parsed.operands
      const { api, namespace } = await openTarget(parsed)
      const pair = await api.get(FILER_PAIRS, namespace, name)
      const epoch = (pair['status'] as { epoch?: number } | undefined)?.epoch
      if (epoch === undefined) throw new Error(`pair ${name} has no status.epoch yet`)
      try {
        await api.mergePatch(FILER_PAIRS, namespace, name, { spec: { takeover: { givebackEpoch: epoch } } })
      } catch (error) {
        if (error instanceof KubeError && error.code === 422) throw new Error(error.message, { cause: error })
        throw error
      }
      console.log(`pair ${name} gives back at epoch ${String(epoch)}`)
      return 0
    },
  )
}

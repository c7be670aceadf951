/**
 * `tandem takeover`: the partner serves a filer's volumes from now on. A filer that ends as planned hands its volumes over first, so
 * this deletes its pod; the pod comes back, is filled again, and gets its volumes back as spec.takeover says.
 */
import { FILER_PAIRS, PODS } from '../edge/kube/resources.ts'
import { withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget } from '../embedded/cli/connection.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'takeover',
      summary: 'have the partner serve the volumes of a filer (planned; its pod is started anew)',
      operands: 'PAIR FILER',
      operandsMin: 2,
      operandsMax: 2,
      flags: { state: STATE_FLAG, namespace: NAMESPACE_FLAG },
      notes: 'Exit status 75: not now, because the partner could not take over without loss.',
    },
    args,
    async (parsed) => {
      const [pairName = '', filer = ''] = parsed.operands
      const { api, namespace } = await openTarget(parsed)
      const pair = await api.get(FILER_PAIRS, namespace, pairName)
      const filers = (pair['spec'] as { filers: { name: string }[] }).filers.map((entry) => entry.name)
      if (!filers.includes(filer))
        throw new Error(`pair ${pairName} has no filer ${filer}; it has ${filers.join(' and ')}`)
      const status = pair['status'] as
        { conditions?: { type: string; status: string; reason?: string; message?: string }[] } | undefined
      const possible = status?.conditions?.find((condition) => condition.type === 'TakeoverPossible')
      if (possible?.status !== 'True') {
        console.error(
          `tandem takeover: not now: ${possible?.reason ?? 'unknown'}: ${possible?.message ?? 'the pair has not reported'}`,
        )
        return 75
      }
      await api.delete(PODS, namespace, `${pairName}-${filer}-0`)
      console.log(
        `pod ${pairName}-${filer}-0 ends and hands its volumes over; \`tandem status ${pairName}\` shows it`,
      )
      return 0
    },
  )
}

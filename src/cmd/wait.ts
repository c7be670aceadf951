/** `tandem wait`: until a condition holds. */
import { withArguments } from '../embedded/cli/args.ts'
import { UsageError } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget } from '../embedded/cli/connection.ts'
import { parseSelections } from '../embedded/cli/kinds.ts'
import { parseGoal, parseSeconds, waitFor } from '../embedded/cli/wait.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'wait',
      summary: 'wait until a condition holds',
      operands: 'KIND NAME… | KIND/NAME…',
      operandsMin: 1,
      operandsMax: Infinity,
      flags: {
        for: {
          kind: 'text',
          value: 'GOAL',
          meaning: 'condition=NAME[=STATUS], jsonpath={PATH}=VALUE, or delete',
        },
        timeout: { kind: 'text', value: 'TIME', meaning: 'default 60s' },
        state: STATE_FLAG,
        namespace: NAMESPACE_FLAG,
      },
      notes: 'Exit status 124: the time was up first; the condition as it is then is told.',
    },
    args,
    async (parsed) => {
      const wanted = parsed.text('for')
      if (wanted === undefined) throw new UsageError('for what? Say --for=condition=Ready')
      const goal = parseGoal(wanted)
      const selections = parseSelections(parsed.operands)
      if (selections.some((selection) => selection.names.length === 0))
        throw new UsageError('which? Name them')
      const deadline = performance.now() + parseSeconds(parsed.text('timeout') ?? '60s') * 1000
      const { api, namespace } = await openTarget(parsed)
      for (const { resource, names } of selections)
        for (const name of names) {
          const title = `${resource.kind.toLowerCase()}/${name}`
          const remainingMs = Math.max(1, deadline - performance.now())
          const { met, object } = await waitFor(api, resource, namespace, name, goal, remainingMs)
          if (!met) {
            console.error(`tandem wait: time is up for ${title} (${wanted}): ${lastWord(object, wanted)}`)
            return 124
          }
          console.log(`${title} ${wanted === 'delete' ? 'is gone' : 'condition met'}`)
        }
      return 0
    },
  )
}

function lastWord(object: unknown, wanted: string): string {
  if (object === undefined) return 'there is no such object'
  const type = /^condition=([A-Za-z]+)/.exec(wanted)?.[1]
  const { status } = object as {
    status?: { conditions?: { type: string; status: string; reason?: string; message?: string }[] }
  }
  const condition = status?.conditions?.find((candidate) => candidate.type === type)
  if (condition === undefined) return type === undefined ? 'not so' : `${type} is not set`
  return `${condition.type}=${condition.status} ${condition.reason ?? ''}: ${condition.message ?? ''}`
}

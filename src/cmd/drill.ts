/** `tandem drill`: each filer in turn is taken out of service and brought home; clients' pauses are told. */
import { FILER_PAIRS } from '../edge/kube/resources.ts'
import { withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, TIMEOUT_FLAG, openTarget } from '../embedded/cli/connection.ts'
import {
  bringHome,
  filersOf,
  moveAway,
  pauseText,
  read,
  specOf,
  statusOf,
} from '../embedded/cli/pair-moves.ts'
import type { PairName } from '../embedded/cli/pair-moves.ts'
import { parseGoal, parseSeconds, waitFor } from '../embedded/cli/wait.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'drill',
      summary: 'take each filer out of service and bring it home; tell what clients waited',
      operands: 'PAIR',
      operandsMin: 1,
      operandsMax: 1,
      flags: {
        timeout: { ...TIMEOUT_FLAG, meaning: 'for each of the four moves; default 30s' },
        state: STATE_FLAG,
        namespace: NAMESPACE_FLAG,
      },
      notes:
        'Exit status 75: not now, because a filer could not be spared. 124: a move was not done in time; what was begun is undone.',
    },
    args,
    async (parsed) => {
      const [name = ''] = parsed.operands
      const timeoutMs = parseSeconds(parsed.text('timeout') ?? '30s') * 1000
      return drill({ ...(await openTarget(parsed)), name }, timeoutMs)
    },
  )
}

async function drill(of: PairName, timeoutMs: number): Promise<number> {
  const pair = await read(of)
  const notNow = whyNot(pair)
  if (notNow !== undefined) {
    console.error(`tandem drill: not now: ${notNow}`)
    return 75
  }
  const endMaintenance = (): Promise<unknown> =>
    of.api.mergePatch(FILER_PAIRS, of.namespace, of.name, { spec: { maintenance: null } })
  let away = false
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      void (away ? endMaintenance() : Promise.resolve()).finally(() => process.exit(130))
    })
  for (const filer of filersOf(pair)) {
    // The second filer can be spared when the first one is whole again.
    const { api, namespace } = of
    await waitFor(api, FILER_PAIRS, namespace, of.name, parseGoal('condition=TakeoverPossible'), timeoutMs)
    away = true
    const there = await moveAway(of, filer, timeoutMs)
    if (there.state === 'Moved')
      console.log(`filer ${filer}: its partner serves; ${pauseText(there.pauseMilliseconds)}`)
    else console.error(`tandem drill: filer ${filer} is not taken over: ${there.message}`)
    const back = await bringHome(of, timeoutMs)
    away = false
    if (back.state === 'Moved')
      console.log(`filer ${filer}: home again; ${pauseText(back.pauseMilliseconds)}`)
    else console.error(`tandem drill: filer ${filer} is not home: ${back.message}`)
    if (there.state !== 'Moved') return there.state === 'NotNow' ? 75 : 124
    if (back.state !== 'Moved') return 124
  }
  return 0
}

function whyNot(pair: Awaited<ReturnType<typeof read>>): string | undefined {
  const { maintenance, state } = specOf(pair)
  if (state === 'Stopped') return 'spec.state is Stopped'
  if (maintenance !== undefined)
    return `filer ${maintenance.filer} is under maintenance; end it with tandem giveback ${pair.metadata.name}`
  const { conditions = [], filers = [] } = statusOf(pair)
  const away = filers.find((f) => f.servedBy !== f.name)
  if (away !== undefined)
    return `filer ${away.name} does not serve its own volumes; tandem giveback ${pair.metadata.name} brings them home`
  const wrong = conditions.find(
    (c) => ['Redundant', 'TakeoverPossible'].includes(c.type) && c.status !== 'True',
  )
  if (wrong !== undefined) return `${wrong.reason}: ${wrong.message}`
  return conditions.length === 0 ? 'the pair has not reported' : undefined
}

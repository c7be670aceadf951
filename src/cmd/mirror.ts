/** `tandem mirror`: breaks a mirror, reverses it, and has it mirror again. */
import { nearest } from '../api/nearest.ts'
import { UsageError, withArguments } from '../embedded/cli/args.ts'
import type { Parsed } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget } from '../embedded/cli/connection.ts'
import { breakMirror, resyncMirror, reverseMirror } from '../embedded/cli/mirror-moves.ts'
import type { MirrorEnd, MirrorName } from '../embedded/cli/mirror-moves.ts'
import { parseSeconds } from '../embedded/cli/wait.ts'

const ACTIONS = ['break', 'reverse', 'resync']

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'mirror',
      summary: 'break a mirror, reverse it, or have it mirror again',
      operands: 'break|reverse|resync MIRROR',
      operandsMin: 2,
      operandsMax: 2,
      flags: {
        source: {
          kind: 'text',
          value: 'VOLUME',
          meaning: 'resync: the volume whose files are right; must be given',
        },
        discard: {
          kind: 'text',
          value: 'ID',
          meaning: 'resync: the divergence of the other volume that may be overwritten',
        },
        timeout: { kind: 'text', value: 'TIME', meaning: 'how long to wait for the end; default 60s' },
        state: STATE_FLAG,
        namespace: NAMESPACE_FLAG,
      },
      notes:
        'Writes the same fields as kubectl patch (spec.state, source, destination, discardChanges). Exit status 1: refused, or changes would be lost; 75: reverse not now, because the mirror is not in sync; 124: asked for, and not done in time.',
    },
    args,
    async (parsed) => {
      const [action = '', name = ''] = parsed.operands
      if (!ACTIONS.includes(action)) {
        const near = nearest(action, ACTIONS)
        throw new UsageError(
          `${JSON.stringify(action)} is not one of ${ACTIONS.join(', ')}${near === undefined ? '' : `; the nearest is ${near}`}`,
        )
      }
      const source = parsed.text('source')
      if (action === 'resync' && source === undefined)
        throw new UsageError('resync overwrites a volume: say with --source VOLUME which one is right')
      if (action !== 'resync' && (source !== undefined || parsed.text('discard') !== undefined))
        throw new UsageError('--source and --discard go with resync only')
      const of = { ...(await openTarget(parsed)), name }
      return tell(action, parsed, await move(action, of, parsed))
    },
  )
}

function move(action: string, of: MirrorName, parsed: Parsed): Promise<MirrorEnd> {
  const timeoutMs = parseSeconds(parsed.text('timeout') ?? '60s') * 1000
  if (action === 'break') return breakMirror(of, timeoutMs)
  if (action === 'reverse') return reverseMirror(of, timeoutMs)
  return resyncMirror(of, parsed.text('source')!, parsed.text('discard'), timeoutMs)
}

function tell(action: string, parsed: Parsed, end: MirrorEnd): number {
  const [, name = ''] = parsed.operands
  switch (end.state) {
    case 'Done':
      console.log(
        action === 'break'
          ? `mirror ${name} is broken: ${end.destination} is a volume of its own`
          : `mirror ${name} is in sync, from ${end.source} to ${end.destination}`,
      )
      return 0
    case 'NotNow':
      console.error(`tandem mirror: not now, nothing was changed: ${end.message}`)
      return 75
    case 'Refused':
      console.error(`tandem mirror: refused: ${end.message}`)
      return 1
    case 'Late':
      console.error(`tandem mirror: time is up, it stays asked for: ${end.message}`)
      return 124
    case 'WouldDiscard': {
      const { id, bytes, since } = end.divergence
      const state = parsed.text('state')
      console.error(
        [
          `tandem mirror: the volume that is to be overwritten has ${bytes} of changes since ${since} that the other one has not. Nothing was overwritten. To lose them:`,
          `  tandem mirror resync ${name} --source ${parsed.text('source') ?? ''} --discard ${id}${state === undefined ? '' : ` --state ${state}`}`,
        ].join('\n'),
      )
      return 1
    }
  }
}

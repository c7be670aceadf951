/** The cases of Mirror in the table of rules.cases.ts. */
import type { RuleCase } from './rule-case.ts'

const ends = { source: { volumeName: 'home' }, destination: { volumeName: 'home-dr' } }
const swapped = { source: ends.destination, destination: ends.source }

const mirrorCase = (name: string, spec: Record<string, unknown>, rest: Partial<RuleCase> = {}): RuleCase => ({
  name,
  kind: 'Mirror',
  spec: { ...ends, ...spec },
  ...rest,
})

export const mirrorCases: readonly RuleCase[] = [
  mirrorCase('the least mirror', {}),
  mirrorCase('a change of nothing', {}, { old: ends }),
  mirrorCase('a break', { state: 'Broken' }, { old: ends }),
  mirrorCase('a mirror again', {}, { old: { ...ends, state: 'Broken' } }),
  mirrorCase('a swap', swapped, { old: ends }),
  mirrorCase(
    'a swap of a broken mirror',
    { ...swapped, state: 'Broken' },
    { old: { ...ends, state: 'Broken' } },
  ),
  mirrorCase(
    'a swap and a break',
    { ...swapped, state: 'Broken' },
    { old: ends, refused: 'not reversed and broken at once' },
  ),
  mirrorCase('a swap and a resync', swapped, { old: { ...ends, state: 'Broken' } }),
  mirrorCase(
    'another destination',
    { destination: { volumeName: 'home-dr2' } },
    { old: ends, refused: 'may be swapped' },
  ),
  mirrorCase('another source', { source: { volumeName: 'x' } }, { old: ends, refused: 'may be swapped' }),
  mirrorCase(
    'half a swap',
    { source: ends.destination, destination: { volumeName: 'x' } },
    { old: ends, refused: 'may be swapped' },
  ),
  mirrorCase(
    'a volume on itself',
    { destination: ends.source },
    { refused: 'a volume is not mirrored on itself' },
  ),
  mirrorCase('no destination', { destination: undefined }, { refused: 'must be given', bySchema: true }),
  mirrorCase('a source without a name', { source: {} }, { refused: 'must be given', bySchema: true }),
  mirrorCase(
    'a name that is none',
    { source: { volumeName: 'Home' } },
    { refused: 'the name of an object', bySchema: true },
  ),
  mirrorCase('strict', { policy: 'Strict' }, { old: ends }),
  mirrorCase(
    'a policy that is none',
    { policy: 'Loose' },
    { refused: 'not one of Relaxed, Strict', bySchema: true },
  ),
  mirrorCase(
    'a state that is none',
    { state: 'Paused' },
    { refused: 'not one of Mirrored, Broken', bySchema: true },
  ),
  mirrorCase('three log files', { logFilesMax: 3 }),
  mirrorCase('two log files', { logFilesMax: 2 }, { refused: 'at least 3', bySchema: true }),
  mirrorCase('consent', { discardChanges: 'x' }, { old: ends }),
]

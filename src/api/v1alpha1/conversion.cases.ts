/** The cases of Conversion in the table of rules.cases.ts. */
import type { RuleCase } from './rule-case.ts'

const least = { volumeName: 'archive', aggregate: 'aggr3' }

const conversionCase = (
  name: string,
  spec: Record<string, unknown>,
  rest: Partial<RuleCase> = {},
): RuleCase => ({ name, kind: 'Conversion', spec: { ...least, ...spec }, ...rest })

export const conversionCases: readonly RuleCase[] = [
  conversionCase('the least conversion', {}),
  conversionCase('a change of nothing', {}, { old: least }),
  conversionCase('a check', { state: 'Checked' }),
  conversionCase('a pause', { state: 'Paused' }, { old: least }),
  conversionCase('a rollback', { state: 'RolledBack', discardChanges: 'x' }, { old: least }),
  conversionCase(
    'a state that is none',
    { state: 'Stopped' },
    { refused: 'not one of Checked, Paused, Converted, RolledBack', bySchema: true },
  ),
  conversionCase('snapshots deleted first', { snapshots: 'Delete' }),
  conversionCase('that later', { snapshots: 'Delete' }, { old: least }),
  conversionCase(
    'snapshots that stay',
    { snapshots: 'Convert' },
    { refused: 'not one of RequireNone, Delete', bySchema: true },
  ),
  conversionCase('another rate', { scanBlocksPerSecond: 1 }, { old: least }),
  conversionCase('a rate of nothing', { scanBlocksPerSecond: 0 }, { refused: 'at least 1', bySchema: true }),
  conversionCase('another volume', { volumeName: 'x' }, { old: least, refused: 'spec.volumeName is fixed' }),
  conversionCase('another aggregate', { aggregate: 'x' }, { old: least, refused: 'spec.aggregate is fixed' }),
  conversionCase('no volume', { volumeName: undefined }, { refused: 'must be given', bySchema: true }),
  conversionCase('no aggregate', { aggregate: undefined }, { refused: 'must be given', bySchema: true }),
  conversionCase('an aggregate of a wrong name', { aggregate: 'A' }, { refused: '1 to 15', bySchema: true }),
]

/** The kind Conversion: a traditional volume becomes a flexible one, in place. */
import { boolean, defaulted, integer, object, oneOf, optional, string, transition } from '../schema.ts'
import type { Infer, Kind } from '../schema.ts'
import { GROUP, VERSION, conditions } from './common.ts'
import type { Metadata } from './common.ts'
import { conversionConditions } from './conversion-conditions.ts'
import { objectName, partName } from './device-set.ts'

const spec = object('What is converted, and how far. Clients read and write throughout.', {
  volumeName: objectName('The FilerVolume, of type Traditional, in the same namespace. Fixed.'),
  aggregate: partName(
    'The aggregate of which the volume becomes a part, and its devices too: of the same filer, declared in the pair, and empty. Fixed.',
  ),
  state: defaulted(
    oneOf(
      'Checked: only say whether it would work. Converted: check, then do it. Paused: nothing is built ahead; what clients touch still is. RolledBack: the volume is what it was; possible until its devices have joined the aggregate.',
      ['Checked', 'Paused', 'Converted', 'RolledBack'],
    ),
    'Converted',
  ),
  snapshots: defaulted(
    oneOf(
      'Snapshots are not taken along. RequireNone: a volume that has any is refused. Delete: all of them are deleted before the cut-over, and do not come back with a rollback.',
      ['RequireNone', 'Delete'],
    ),
    'RequireNone',
  ),
  scanBlocksPerSecond: defaulted(
    integer('How many blocks of metadata are looked at in a second, so that clients do not suffer.', {
      minimum: 1,
      maximum: 10_000_000,
    }),
    20_000,
  ),
  discardChanges: optional(
    string(
      '`status.cutOverID`: rolling back may drop what was written since that cut-over. Of another id it does nothing.',
      { maxLength: 128 },
    ),
  ),
})
export type ConversionSpec = Infer<typeof spec>

const status = object('What is.', {
  observedGeneration: optional(integer('metadata.generation that this status speaks of.')),
  conditions: optional(conditions),
  id: optional(string('Names the conversion at the filers.')),
  phase: optional(
    string(
      '`Checking`, `Refused`, `Checked`, `CuttingOver`, `Scanning`, `Paused`, `Joining`, `Complete`, `RollingBack`, `RolledBack`.',
    ),
  ),
  percent: optional(integer('Of the metadata, how much has been built.')),
  inodes: optional(
    object('Files and directories.', {
      done: integer('Whose metadata has been built.'),
      total: integer('All.'),
    }),
  ),
  metadata: optional(
    object('The new metadata: all that is written for the conversion.', {
      estimated: string('At the check.'),
      actual: string('Until now.'),
    }),
  ),
  dataBlocksCopied: optional(integer('Blocks of data that the conversion copied: 0.')),
  absentLeft: optional(integer('Blocks of metadata that are still to be built, at most.')),
  rollback: optional(
    object('The way back.', {
      possible: boolean('Until the devices have joined the aggregate.'),
      changed: string('How much clients changed since the cut-over, and would lose.'),
    }),
  ),
  cutOverID: optional(string('Names the cut-over, for `spec.discardChanges`.')),
  message: optional(string('What to look at first, if anything.')),
})
export type ConversionStatus = Infer<typeof status>

const fixed = (field: 'volumeName' | 'aggregate') =>
  transition<string>(
    `spec.${field}`,
    'self == oldSelf',
    `spec.${field} is fixed: put it back, or delete the conversion and make another one`,
    (self, old) => self === old,
  )

export const conversion: Kind = {
  group: GROUP,
  version: VERSION,
  kind: 'Conversion',
  plural: 'conversions',
  singular: 'conversion',
  shortNames: ['conv'],
  categories: ['tandem'],
  description:
    'A Traditional volume becomes a Flexible one in an aggregate, in place: clients keep working, handles stay valid, and no block of data is copied.',
  spec,
  status,
  rules: (['volumeName', 'aggregate'] as const).map(fixed),
  columns: [
    { name: 'Phase', type: 'string', jsonPath: '.status.phase' },
    { name: 'Progress', type: 'integer', jsonPath: '.status.percent' },
    { name: 'Copied', type: 'integer', jsonPath: '.status.dataBlocksCopied' },
    { name: 'Absent', type: 'integer', jsonPath: '.status.absentLeft' },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
    { name: 'Message', type: 'string', jsonPath: '.status.message', wide: true },
  ],
  conditions: conversionConditions,
}

export interface Conversion {
  apiVersion: string
  kind: 'Conversion'
  metadata: Metadata
  spec: ConversionSpec
  status?: ConversionStatus
}

/** The kind Mirror: a volume of one pair, kept as it is on another pair. */
import { defaulted, integer, object, oneOf, optional, rule, string, transition } from '../schema.ts'
import type { Infer, Kind } from '../schema.ts'
import { GROUP, VERSION, conditions } from './common.ts'
import type { Metadata } from './common.ts'
import { objectName } from './device-set.ts'
import { mirrorConditions } from './mirror-conditions.ts'

const end = (description: string) =>
  object(description, {
    volumeName: objectName('A FilerVolume of this namespace, of type Flexible.'),
  })
export type MirrorEnd = Infer<ReturnType<typeof end>>

const spec = object(
  'What is mirrored where. Source and destination may be swapped, which reverses the mirror.',
  {
    source: end('The volume that clients write.'),
    destination: end(
      'The volume that becomes a copy of it, in another pair: never written when the mirror is made.',
    ),
    policy: defaulted(
      oneOf(
        'When the destination is not reached. Relaxed: the source goes on alone, and the destination catches up by itself. Strict: changes of the source wait until both have them.',
        ['Relaxed', 'Strict'],
      ),
      'Relaxed',
    ),
    state: defaulted(
      oneOf(
        'Broken: the destination is a volume of its own, and may be written. Mirrored again: changes of the source are carried over; see `discardChanges`.',
        ['Mirrored', 'Broken'],
      ),
      'Mirrored',
    ),
    logFilesMax: defaulted(
      integer(
        'How many log files the destination may have. At this many, calls on the source wait for the destination’s next consistency point.',
        { minimum: 3, maximum: 64 },
      ),
      16,
    ),
    discardChanges: optional(
      string(
        '`status.divergence.id`: exactly these changes, which only the destination has, may be overwritten. Of another id it does nothing.',
        { maxLength: 128 },
      ),
    ),
  },
)
export type MirrorSpec = Infer<typeof spec>

const status = object('What is.', {
  observedGeneration: optional(integer('metadata.generation that this status speaks of.')),
  conditions: optional(conditions),
  id: optional(string('Names the mirror at the filers.')),
  state: optional(
    string(
      '`Baseline`: the first image is on its way. `CatchUp`: later images are. `Joining`: changes are sent, and answers do not wait yet. `InSync`. `OutOfSync`. `Reversing`. `Breaking`. `Broken`.',
    ),
  ),
  source: optional(string('`<pair>/<volume>` in force.')),
  destination: optional(string('`<pair>/<volume>` in force.')),
  lagSeconds: optional(integer('For how long the destination has lacked something; 0 in sync.')),
  lag: optional(string('For people: `0s`, or `45s 12Mi` with what the destination lacks, roughly.')),
  logFiles: optional(string('Log files at the destination, of how many there may be: `3/16`.')),
  baselinePercent: optional(integer('Of the first image, while it is on its way.')),
  divergence: optional(
    object('What the destination has and the source has not, and a resync would overwrite.', {
      id: string('Names it, for `spec.discardChanges`.'),
      bytes: string('How much, roughly.'),
      since: string('The time of the newest image that both have.', { format: 'date-time' }),
    }),
  ),
  message: optional(string('What to look at first, if anything.')),
})
export type MirrorStatus = Infer<typeof status>

const same = (a: MirrorEnd, b: MirrorEnd): boolean => a.volumeName === b.volumeName

export const mirror: Kind = {
  group: GROUP,
  version: VERSION,
  kind: 'Mirror',
  plural: 'mirrors',
  singular: 'mirror',
  shortNames: ['mir'],
  categories: ['tandem'],
  description:
    'A flexible volume of one FilerPair kept on another, synchronously: what was acknowledged is at both. Deleting it deletes neither volume.',
  spec,
  status,
  rules: [
    rule<MirrorSpec>(
      'spec',
      'self.source.volumeName != self.destination.volumeName',
      'spec.destination must be another volume than spec.source: a volume is not mirrored on itself',
      (self) => !same(self.source, self.destination),
    ),
    transition<MirrorSpec>(
      'spec',
      '(self.source.volumeName == oldSelf.source.volumeName && self.destination.volumeName == oldSelf.destination.volumeName)' +
        ' || (self.source.volumeName == oldSelf.destination.volumeName && self.destination.volumeName == oldSelf.source.volumeName)',
      'spec.source and spec.destination are fixed, but may be swapped; put them back, or make another mirror',
      (self, old) =>
        (same(self.source, old.source) && same(self.destination, old.destination)) ||
        (same(self.source, old.destination) && same(self.destination, old.source)),
    ),
    transition<MirrorSpec>(
      'spec',
      "self.state != 'Broken' || oldSelf.state == 'Broken' || self.source.volumeName == oldSelf.source.volumeName",
      'spec.state: a mirror is not reversed and broken at once, for which volume would then be written? Do one, then the other',
      (self, old) => self.state !== 'Broken' || old.state === 'Broken' || same(self.source, old.source),
    ),
  ],
  columns: [
    { name: 'State', type: 'string', jsonPath: '.status.state' },
    { name: 'In Sync', type: 'string', jsonPath: '.status.conditions[?(@.type=="InSync")].status' },
    { name: 'Source', type: 'string', jsonPath: '.status.source' },
    { name: 'Destination', type: 'string', jsonPath: '.status.destination' },
    { name: 'Lag', type: 'string', jsonPath: '.status.lag' },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
    { name: 'Message', type: 'string', jsonPath: '.status.message', wide: true },
  ],
  conditions: mirrorConditions,
}

export interface Mirror {
  apiVersion: string
  kind: 'Mirror'
  metadata: Metadata
  spec: MirrorSpec
  status?: MirrorStatus
}

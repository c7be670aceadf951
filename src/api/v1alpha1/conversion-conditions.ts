/** The conditions of a Conversion and the closed list of their reasons. */
import type { ConditionDoc } from '../schema.ts'
import { acceptedReasons } from './common.ts'

const notAccepted = 'There is no accepted spec yet.'
const unknown = 'The filer that serves the volume could not be asked.'
const removing = 'The conversion is being deleted: undone before the cut-over, left to the filer after it.'

export const conversionConditions: readonly ConditionDoc[] = [
  {
    type: 'Accepted',
    means: 'The spec is valid and in force.',
    reasons: {
      ...acceptedReasons,
      VolumeNotFound: 'There is no FilerVolume of the name, or its own spec is not accepted.',
      Unknown: 'A FilerVolume has just been made, and its own spec is being looked at.',
      VolumeNotTraditional: 'The volume is Flexible already.',
      VolumeInUse: 'An older conversion has the same volume.',
      AggregateNotFound: 'The pair has no aggregate of the name.',
      OtherFiler: 'The aggregate is of the other filer.',
      AggregateInUse: 'A FilerVolume is in the aggregate, or an older conversion has it.',
    },
  },
  {
    type: 'Checked',
    means: 'It would work.',
    reasons: {
      Checked: 'It would.',
      NotAccepted: notAccepted,
      Checking: 'The filer is looking.',
      NoSpace: 'The aggregate has too little room for the metadata and for changes until the end.',
      SnapshotsExist:
        'The volume has snapshots, which cannot be taken along, and `spec.snapshots` is `RequireNone`.',
      VolumeMirrored: 'The volume has a mirror.',
      AggregateNotEmpty: 'Something is in the aggregate.',
      AggregateNotFound: 'The filer does not have the aggregate (yet).',
      VolumeNotFound: 'The filer does not have the volume (yet).',
      NotTraditional: 'The volume is not a traditional one at the filer.',
      NotRedundant: 'The pair has not both copies of everything; it waits for that.',
      DeviceError: 'A device of the volume had errors.',
      Removing: removing,
      Unknown: unknown,
    },
  },
  {
    type: 'CutOver',
    means: 'The volume is served as a flexible one.',
    reasons: {
      CutOver: 'It is.',
      NotAccepted: notAccepted,
      NotYet: 'It will be, if `spec.state` asks for it.',
      Busy: 'Calls would have waited too long; it is tried again.',
      RolledBack: 'It was, and is no more.',
      Removing: removing,
      Unknown: unknown,
    },
  },
  {
    type: 'Complete',
    means: 'The devices belong to the aggregate; nothing is left to do.',
    reasons: {
      Complete: 'They do.',
      NotAccepted: notAccepted,
      NotYet: 'Metadata is still to be built.',
      NoSpace: 'The scan waits for room in the aggregate: give it more devices, delete files, or roll back.',
      Paused: '`spec.state` is `Paused`.',
      NotRedundant: 'The devices join when both copies are current.',
      DeviceError: 'The scan met a block that neither copy can give back; it tries again.',
      RolledBack: 'The conversion was rolled back.',
      Removing: removing,
      Unknown: unknown,
    },
  },
  {
    type: 'RolledBack',
    means: 'The volume is what it was before the cut-over.',
    reasons: {
      RolledBack: 'It is.',
      NotAccepted: notAccepted,
      NotAsked: '`spec.state` is not `RolledBack`.',
      RollingBack: 'It is under way.',
      WouldDiscardChanges:
        'Clients have written since the cut-over; `spec.discardChanges: <status.cutOverID>` drops that.',
      TooLate: 'The devices have joined the aggregate.',
      Removing: removing,
      Unknown: unknown,
    },
  },
]

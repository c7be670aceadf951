/** The conditions of a Mirror and the closed list of their reasons. */
import type { ConditionDoc } from '../schema.ts'
import { acceptedReasons } from './common.ts'

const notAccepted = 'There is no accepted spec yet.'
const unknown = 'No filer that serves an end could be asked.'

export const mirrorConditions: readonly ConditionDoc[] = [
  {
    type: 'Accepted',
    means: 'The spec is valid and in force.',
    reasons: {
      ...acceptedReasons,
      VolumeNotFound: 'There is no FilerVolume of the name, or its own spec is not accepted.',
      Unknown: 'A FilerVolume has just been made, and its own spec is being looked at.',
      VolumeNotFlexible: 'A Traditional volume cannot be mirrored.',
      SamePair: 'Both volumes are of one pair, which keeps two copies of each already.',
      SameVolume: 'Both names are of one volume.',
      Cycle: 'With older mirrors, changes of a volume would come back to it.',
      Cascade: 'The source is the destination of an older mirror, or the destination the source of one.',
      VolumeInUse: 'An older mirror has the same source or the same destination.',
      DestinationNotEmpty: 'The destination has been written.',
      NotInSync: 'Source and destination were swapped while the mirror was not in sync.',
    },
  },
  {
    type: 'Ready',
    means: '`spec.state` is reached: in sync, or broken.',
    reasons: {
      Ready: 'It is.',
      NotAccepted: notAccepted,
      Connecting: 'The filers of the two pairs have not met yet, or the mirror is being made.',
      PairNotReady: 'A side of a pair in which an end lives is not served.',
      Baseline: 'The first image is on its way.',
      Resyncing: 'The destination is catching up.',
      OutOfSync: 'The source goes on alone, and the destination will catch up.',
      Switching: 'The mirror is being broken, or its direction changed.',
      NotInSync: 'Source and destination were swapped while the mirror was not in sync.',
      WouldDiscardChanges: 'The destination has changes that the source has not; see `status.divergence`.',
      Failed: 'A filer cannot do it; the message says why.',
      Removing: 'The mirror is being deleted: the filers forget it.',
      Unknown: unknown,
    },
  },
  {
    type: 'InSync',
    means: 'What clients are told is done is durable at both pairs.',
    reasons: {
      InSync: 'It is.',
      NotAccepted: notAccepted,
      Baseline: 'The first image is on its way.',
      CatchingUp: 'The destination is being brought up to date.',
      LinkLost: 'The pairs do not reach each other.',
      DestinationDown: 'No filer serves the destination, or it did not answer in time.',
      LogFilesExhausted: 'The destination had no more log files, for too long.',
      VersionMismatch: 'The pairs run releases that do not understand each other about mirrors.',
      NoSpace: 'The destination or the source has too little space for the mirror.',
      Broken: 'The mirror is broken.',
      Failed: 'A filer cannot do it; the message says why.',
      Unknown: unknown,
    },
  },
  {
    type: 'Broken',
    means: 'The destination is a volume of its own.',
    reasons: {
      Broken: 'It is.',
      NotAccepted: notAccepted,
      Mirrored: 'It is a mirror.',
      Breaking: 'It is becoming one.',
      Unknown: unknown,
    },
  },
]

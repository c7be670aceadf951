/** The conditions of a FilerPair and the closed list of their reasons. */
import type { ConditionDoc } from '../schema.ts'
import { acceptedReasons } from './common.ts'

export const pairConditions: readonly ConditionDoc[] = [
  {
    type: 'Accepted',
    means: 'The spec is valid and in force.',
    reasons: {
      ...acceptedReasons,
      NameTaken: 'An object of a name that the pair needs belongs to somebody else, and is not touched.',
      RetainedDataExists:
        'Claims of an earlier pair of this name are still there, and are not touched unless `spec.adopt` names it.',
      RetainedDataNotFound: '`spec.adopt` names a pair of which no claims are here.',
      InUse: 'An aggregate that was taken out still holds volumes, or nobody could be asked whether it does.',
    },
  },
  {
    type: 'Ready',
    means: 'Every volume is served, by whichever filer.',
    reasons: {
      Ready: 'They are.',
      NotAccepted: 'There is no accepted spec yet.',
      Starting: 'Pods or filers are on their way.',
      Unschedulable: 'No node may run a pod.',
      StorageClassNotFound: 'A StorageClass that the spec names does not exist.',
      DevicePermissionDenied: 'A filer may not open its device.',
      CopyOutOfDate: 'The filer that is up has a copy that is not the latest.',
      LossRefused: '`spec.acceptLoss` is not carried out, because the newest copy may still be there.',
      LogLost: 'A log that was in memory only is lost with its filer.',
      VoteUnreachable: 'A filer cannot reach the Lease of the pair, and needs it to start.',
      VoteLost: 'The Lease lost its record; both filers together write it anew.',
      VoteRolledBack:
        'The record in the Lease is older than what a filer has stored; both filers together write it anew.',
      VoteForeign: 'The record in the Lease is of another pair.',
      Manual: 'A filer is silent, and `spec.takeover.mode` is `Manual`.',
      TakeoverLimit: 'Too many takeovers from a filer that lived, within the hour.',
      Stopping: '`spec.state` is `Stopped`: the filers write everything to both copies, then end.',
      Stopped: '`spec.state` is `Stopped`, or the pair is being deleted.',
      Unreachable: 'A filer’s pod runs, but its administration does not answer.',
      InUse: 'The pair is being deleted and waits for its volumes.',
    },
  },
  {
    type: 'Redundant',
    means: 'Both filers have a current copy of everything.',
    reasons: {
      Redundant: 'They have.',
      NotAccepted: 'There is no accepted spec yet.',
      PartnerDown: 'One filer is not there.',
      Resyncing: 'One filer’s copy is being brought up to date.',
      LossAccepted:
        'A copy is served by `spec.acceptLoss`; the other one is kept until `otherCopy: Discarded`.',
      Stopped: '`spec.state` is `Stopped`.',
      Unknown: 'No filer could be asked.',
    },
  },
  {
    type: 'TakeoverPossible',
    means: 'Each filer could take over from the other now.',
    reasons: {
      TakeoverPossible: 'It could.',
      NotAccepted: 'There is no accepted spec yet.',
      PartnerDown: 'One filer is not there.',
      Resyncing: 'One filer’s copy is being brought up to date.',
      LogNotMirrored: 'The log is written by one filer alone.',
      VoteUnreachable: 'A filer cannot reach the Lease of the pair.',
      VoteLost: 'The Lease lost its record; both filers together write it anew.',
      VoteRolledBack:
        'The record in the Lease is older than what a filer has stored; both filers together write it anew.',
      VoteForeign: 'The record in the Lease is of another pair.',
      CopyOutOfDate: 'The copy of the filer that stands by is not the latest.',
      Manual: '`spec.takeover.mode` is `Manual`: a survivor waits for you.',
      TakeoverLimit: 'Too many takeovers from a filer that lived, within the hour.',
      VersionMismatch: 'The two filers run versions that do not go together.',
      CertificateRefused: 'No filer trusts the other’s certificate.',
      WrongPeer: 'Every interconnect leads to somebody else.',
      Stopped: '`spec.state` is `Stopped`.',
      Unknown: 'No filer could be asked.',
    },
  },
  {
    type: 'LinksUp',
    means: 'Every interconnect works.',
    reasons: {
      LinksUp: 'They do.',
      NotAccepted: 'There is no accepted spec yet.',
      LinkDown: 'An interconnect carries nothing.',
      LinkSlow: 'An interconnect is much slower than it was.',
      VersionMismatch: 'Over an interconnect the filers found that their versions do not go together.',
      CertificateRefused: 'Over an interconnect a filer does not trust the other’s certificate.',
      WrongPeer: 'An interconnect leads to somebody else.',
      Stopped: '`spec.state` is `Stopped`.',
      Unknown: 'No filer could be asked.',
    },
  },
  {
    type: 'UpToDate',
    means: 'The pods run the wanted template, and every device has joined.',
    reasons: {
      UpToDate: 'They do.',
      NotAccepted: 'There is no accepted spec yet.',
      Updating: 'A pod is being replaced.',
      WaitingForRedundancy: 'A pod is replaced once the pair is redundant and everything is at home again.',
      WaitingForOtherPair: 'A pod is replaced once another pair is up to date: one pair at a time.',
      WaitingForClaims: 'A pod is replaced once the new claims can be bound.',
      WaitingForYou: 'A pod has an older template and `spec.update` is `Manual`: delete it.',
      DevicesWaiting: 'A new device has not joined its aggregate yet.',
    },
  },
]

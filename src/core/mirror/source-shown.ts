/** What a mirror's source shows of itself: its state, and one word why it is not as it is wanted. */
import type { Refusal } from './messages.ts'
import type { SourceState } from './records.ts'
import type { MirrorReason, MirrorState } from './status.ts'

export type Said = readonly [reason: MirrorReason, message: string]

export interface SourceFactsShown {
  readonly state: SourceState
  /** The destination has answered. */
  readonly up: boolean
  /** Answers wait for the destination; soon they will not any more. */
  readonly bound: boolean
  readonly leaving: boolean
  /** Operations are sent. */
  readonly joining: boolean
  /** Newest image that is complete at the destination. */
  readonly complete: number
  readonly reversing: boolean
  /** What happened last. */
  readonly said: Said
}

const REFUSED: Record<Refusal, Said> = {
  Version: [
    'VersionMismatch',
    'the two pairs run releases that do not understand each other about mirrors: update the older one',
  ],
  Generation: ['Resyncing', 'the destination knows a later generation of this mirror'],
  Fence: ['DestinationDown', 'the destination has heard of a newer owner of this side'],
  Broken: ['Broken', 'the destination is a volume of its own'],
  Source: ['Switching', 'the other end is a source, too, until it is told otherwise'],
  NoImage: [
    'NotInSync',
    'the two ends have no image in common: remove the mirror, and begin anew with an empty volume as its destination',
  ],
  WouldDiscardChanges: [
    'WouldDiscardChanges',
    'the destination has changes of its own; its divergence says which, and discardChanges with that id gives them up',
  ],
}

/** A later release may refuse for reasons that this one does not know. */
export const REFUSALS: typeof REFUSED & Partial<Record<string, Said>> = REFUSED

export function stateShown({ state, up, bound, leaving, joining, complete }: SourceFactsShown): MirrorState {
  if (leaving) return 'OutOfSync'
  if (bound || !up) return state
  if (complete === 0) return 'Baseline'
  return joining ? 'Joining' : 'CatchUp'
}

export function reasonShown(facts: SourceFactsShown): Said {
  const { up, reversing, said } = facts
  switch (stateShown(facts)) {
    case 'InSync':
      return reversing ? ['Switching', 'waits until the other end is ready to be the source'] : ['', '']
    case 'Reversing':
      return [
        'Switching',
        up
          ? 'the other end is about to be the source'
          : 'the other end may be the source already, and is not reached: nothing is served here until it is; breaking the mirror makes each end serve its own',
      ]
    case 'Baseline':
      if (up) return ['Baseline', 'the first image is on its way']
      break
    case 'CatchUp':
    case 'Joining':
      if (said[0] === 'LogFilesExhausted') return said
      return ['CatchingUp', 'images go until the destination is so near that operations can']
    default:
  }
  return said[0] === '' ? ['LinkLost', 'the destination has not answered yet'] : said
}

/**
 * What a mirror decides, as functions of what it knows: whether a call may start, which image is sent next, which log files are free. Source and destination ask these
 * functions, and so does the explored model (testing/ring-model.ts), which shows that rings of mirrors do not stand still and how many log files there are.
 *
 * Epochs are numbers of the source side's consistency points; epoch e ends with the freeze of consistency point e, and image e holds all epochs up to e.
 */

export interface SourceFacts {
  /** Epochs since the image that is durable at the destination, the present one included. */
  readonly epochsBeyondDurable: number
  /** Closed epochs whose image is not complete at the destination. */
  readonly epochsIncomplete: number
  /** Room for what is sent and not acknowledged. */
  readonly hasCredit: boolean
}

export interface Limits {
  /** Log files at the destination. */
  readonly logFiles: number
  /** Closed epochs whose image may be incomplete there while calls go on (Q). */
  readonly incompleteEpochs: number
}

/** What a call on a mirrored volume has to wait for before it starts; undefined: nothing. It holds nothing meanwhile. */
export function admission(
  { epochsBeyondDurable, epochsIncomplete, hasCredit }: SourceFacts,
  limits: Limits,
): 'CREDIT' | 'LOG_FILE' | 'IMAGE' | undefined {
  if (!hasCredit) return 'CREDIT'
  if (epochsBeyondDurable > limits.logFiles) return 'LOG_FILE'
  return epochsIncomplete >= limits.incompleteEpochs ? 'IMAGE' : undefined
}

/** The image to be sent next: one at a time, always the newest that the source has committed; those between are skipped. 0: none. */
export function imageToSend(committed: number, complete: number, inFlight: number): number {
  return inFlight === 0 && committed > complete ? committed : 0
}

/**
 * A consistency point of the destination has committed; `covered` is the image that it froze, not one that became complete since. Its root holds that image, so the epochs in it are
 * needed no more.
 */
export function isReleased(epoch: number, covered: number): boolean {
  return epoch <= covered
}

/**
 * Log files that there can be: `freezes` of the source between a freeze of the destination and the commit of its next consistency point, those that calls may go on beyond the
 * complete image, and the present one.
 */
export function logFilesAtMost(freezes: number, incompleteEpochs: number): number {
  return freezes + incompleteEpochs + 1
}

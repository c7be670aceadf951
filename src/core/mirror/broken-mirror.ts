/** Deliberately broken builds of mirrors, which only tests switch on: each leaves out one rule, and the simulator must notice. Empty in every build that runs. */
export interface BrokenMirror {
  /** Answers do not wait for the destination. */
  readonly answerAlone?: boolean
  /** The destination keeps what an older opening of the source's side sent beyond what the new one has. */
  readonly noCut?: boolean
  /** When a connection begins, the source goes on behind what the destination has, and sends nothing again. */
  readonly noResend?: boolean
  /** The destination listens to an older source. */
  readonly noFence?: boolean
  /** The source lets the image go that is durable at the destination. */
  readonly noPin?: boolean
  /** In sync before the destination's durable image has all epochs before the first one whose operations were sent. */
  readonly joinEarly?: boolean
  /** An image goes as soon as the source's own copy has its root; the partner's may not have it. */
  readonly endEarly?: boolean
  /** A consistency point of the destination releases log files of images that became complete behind its freeze. */
  readonly releaseLate?: boolean
}

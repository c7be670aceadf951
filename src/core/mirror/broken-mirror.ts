/** Deliberately broken builds of mirrors, which only tests switch on: each leaves out one rule, and the simulator must notice. Empty in every build that runs. */
export interface BrokenMirror {
  /** Answers do not wait for the destination. */
  readonly answerAlone?: boolean
  /** The destination keeps what an older opening of the source's side sent beyond what the new one has. */
  readonly noCut?: boolean
  /** The source sends nothing again that the destination lacks when a connection begins. */
  readonly noResend?: boolean
  /** The destination listens to an older source. */
  readonly noFence?: boolean
  /** The source lets the image go that is durable at the destination. */
  readonly noPin?: boolean
  /** In sync before the destination's durable image has all epochs before the first one whose operations were sent. */
  readonly joinEarly?: boolean
}

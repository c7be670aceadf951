/** Deliberately broken builds of mirrors, which only tests switch on: each leaves out one rule, and the simulator must notice. Empty in every build that runs. */
export interface BrokenMirror {
  /** Answers do not wait for the destination. */
  readonly answerAlone?: boolean
  /** The destination keeps what an older opening of the source's side sent beyond what the new one has. */
  readonly noCut?: boolean
}

/** Deliberately broken builds of the file layer, which only tests and the simulator switch on: each leaves out one rule. Empty in every build that runs. */
export interface BrokenFiles {
  /** The reply to a call that must happen once is not in the log record of its change: it is gone when the log is replayed. */
  readonly replyNotLogged?: boolean
  /** Such replies are not in the image of a consistency point. */
  readonly replyNotInImage?: boolean
}

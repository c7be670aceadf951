/**
 * Deliberately broken builds of the block layer, which only tests and the simulator switch on: each leaves out one rule, and something must notice
 * (checkers are tested too). Empty in every build that runs.
 */
import type { BrokenFiles } from '../fs/broken-files.ts'

export interface BrokenStorage extends BrokenFiles {
  /** A block is taken for what the pointer asks for if its checksum holds, whatever its context says. */
  readonly contextNotVerified?: boolean
  /** What an image frees may be written again before its root is durable (H4). */
  readonly reuseBeforeRoot?: boolean
  /** The root is written before the blocks that it names are flushed. */
  readonly rootBeforeFlush?: boolean
  /** Wrong entries of a checksum block are written back beside new ones, to both plexes. */
  readonly entryNotHealed?: boolean
  /** A repair is written even if its block was freed and used again meanwhile. */
  readonly repairOfReused?: boolean
  /** The scrub lets the older of two whole blocks win. */
  readonly scrubPrefersOlder?: boolean
  /** The devices of a converted volume may join while blocks are absent or unmarked: what is still needed counts as free. */
  readonly joinUnbuilt?: boolean
  /** Their labels are written before the root that has them. */
  readonly labelsBeforeIntent?: boolean
  /** Their blocks are handed out before the labels are written. */
  readonly rangeBeforeLabels?: boolean
  /** Numbers that blocks of the old volume had are handed out. */
  readonly oldNumbersReused?: boolean
  /** A change of an old block is written where it lies. */
  readonly oldInPlace?: boolean
  /** A resync notes what it has copied before that is flushed. */
  readonly notedBeforeFlush?: boolean
  /** The consistency point at which a pass began is not asked for: whatever the label names counts as copied. */
  readonly passNotDated?: boolean
  /** Operations are let in without asking whether there is room. */
  readonly noBudget?: boolean
}

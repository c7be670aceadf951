/** A side's questions to the vote: one at a time; what comes of them is heard through `Side.learn`, and decided on anew. */
import type { Change } from './rules.ts'
import { decide } from './rules.ts'
import type { SideView } from './side-context.ts'
import { factsOf } from './side-facts.ts'

interface Voter extends SideView {
  pause(delayMs: number): void
}

export class SideVoting {
  readonly #side: Voter
  #asking = false
  /** Only in the broken build `ackBeforeAlone`. */
  pretendsAlone = false

  constructor(side: Voter) {
    this.#side = side
  }

  refresh(): void {
    if (this.#asking) return
    this.#asking = true
    void this.#side.context.votes.refresh().then((read) => this.#answered(read))
  }

  ask(change: Change): void {
    if (this.#asking) return
    this.#asking = true
    const { name, context, decision, owner, record } = this.#side
    const { votes, env, broken } = context
    env.log('info', 'asking the vote', { side: name, change, why: decision.message })
    if (change === 'ALONE' && broken.ackBeforeAlone && owner) {
      this.pretendsAlone = true
      owner.dropPartner()
    }
    const allowed = (): boolean => decide(factsOf(this.#side)).action === change
    void votes.change(name, record, change, allowed).then((outcome) => {
      // Where the vote is not believed, asking at once again would tell nothing new.
      const isNew = outcome === 'APPLIED' || (outcome === 'MOVED' && this.#side.trust === 'GOOD')
      this.#answered(isNew)
    })
  }

  /** The standby's own change in a hand-over, which the old owner asked for. */
  async takeHandOver(allowed: () => boolean): Promise<void> {
    const { name, context, record } = this.#side
    await context.votes.change(name, record, 'HANDOVER', allowed)
    this.#side.kick()
  }

  #answered(isNew: boolean): void {
    this.#asking = false
    if (isNew) this.#side.kick()
    else this.#side.pause(this.#side.context.times.voteRetryMs)
  }
}

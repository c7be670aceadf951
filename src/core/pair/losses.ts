/**
 * The last resort: a person lets a copy be served although the record calls it out of date, or although its log is lost (`acceptLoss`).
 *
 * The choice is noted in the mailbox before the vote is asked, with the epoch that it overrules, so that it is made once. Until both copies are complete
 * again the other one is kept, unless somebody says that it may be overwritten.
 */
import type { AcceptedLoss, CopyState } from './mailbox.ts'
import { CP_INTERVAL_MS } from './owner.ts'
import type { PairPolicy, SideView } from './side-context.ts'
import type { SideRecord } from './vote.ts'

export class Losses {
  readonly #side: SideView

  constructor(side: SideView) {
    this.#side = side
  }

  /** As `decide` is to take it: of a copy whose log is lost, and that somebody wants all the same, the image is what there is. */
  get copyState(): CopyState {
    const { state } = this.#side.mail
    return state === 'LogLost' && this.accepted ? 'Complete' : state
  }

  /** Is this the record that a person's choice led to, or a later one of this owner? */
  isOf(record: SideRecord): boolean {
    const { mail, context } = this.#side
    return mail.loss !== undefined && record.owner === context.me && record.epoch > mail.loss.epoch
  }

  /** This filer serves what a person chose, and both copies do not have it yet. */
  get accepted(): AcceptedLoss | undefined {
    const { record, mail } = this.#side
    return record && this.isOf(record) ? mail.loss : undefined
  }

  /** A person named this filer and exactly the present epoch. */
  get isAskedFor(): boolean {
    const { record } = this.#side
    return record !== null && this.#order(record.epoch) !== undefined
  }

  get keepsOther(): boolean {
    const { accepted } = this
    if (!accepted) return false
    return this.#order(accepted.epoch)?.otherCopy !== 'Discarded'
  }

  /** What a person says about this side as of `epoch`, with this filer's copy chosen. */
  #order(epoch: number): PairPolicy['acceptLoss'] {
    const { name, context } = this.#side
    const { acceptLoss } = context.policy()
    return acceptLoss?.filer === context.me && acceptLoss.sides[name] === epoch ? acceptLoss : undefined
  }

  /** What was acknowledged after this second may be missing in the copy here; undefined if nothing is, or it is not known. */
  get dataFromSeconds(): number | undefined {
    const { record, mail, context } = this.#side
    if (!record || mail.currentAt === undefined) return undefined
    if (mail.state === 'LogLost') return mail.currentAt - CP_INTERVAL_MS / 1000
    return record.owner !== context.me && !record.mirrored ? mail.currentAt : undefined
  }

  /** Why `acceptLoss`, which names this side's epoch, is not carried out; empty if it is, or was not asked for. */
  get refused(): string {
    const { reason, message } = this.#side.decision
    return reason === 'LossRefused' ? message : ''
  }

  /** Before the vote is asked. */
  async note(): Promise<void> {
    const { name, context, record, mail } = this.#side
    if (!record || mail.loss?.epoch === record.epoch) return
    const loss = { epoch: record.epoch, dataFromSeconds: this.dataFromSeconds ?? 0 }
    context.env.log('warn', 'loss accepted', { side: name, ...loss })
    await context.mailbox.changeSide(name, { loss })
  }

  /** Asked every beat: notes that the copy here has everything that was acknowledged so far. */
  noteCurrent(): void {
    const { name, context, mail, record, opened, greeted } = this.#side
    if (record?.mirrored !== true || mail.state !== 'Complete') return
    if (!opened && !(greeted && context.link().connected)) return
    context.mailbox
      .changeSide(name, { currentAt: context.env.clock.wall().seconds })
      .catch((error: unknown) => context.fatal('mailbox cannot be written', error))
  }
}

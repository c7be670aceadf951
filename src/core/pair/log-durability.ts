/**
 * Where a side's log is durable: on the device always, or, with `durability: Memory` and while the side is mirrored, in both filers' memories.
 *
 * `memoryLog` is in the mailbox before the first batch is in memory only; a filer that starts and finds it set has lost its log (`LogLost`). A filer that is
 * to serve alone writes its log to the device and clears the mark first: alone is always Disk.
 */
import type { MemoryLog } from '../nvlog/memory-log.ts'
import type { SideView } from './side-context.ts'

export class LogDurability {
  readonly #side: SideView
  readonly #log: MemoryLog | undefined
  #changing: Promise<void> | undefined
  /** This process ends: no batch is to be in memory only any more. */
  #ending = false

  constructor(side: SideView, log: MemoryLog | undefined) {
    this.#side = side
    this.#log = log
  }

  /** Everything that was taken is on the device, or at the partner as well. */
  get onDevice(): boolean {
    return this.#side.mail.memoryLog !== true
  }

  /** Asked at every step. */
  adjust(): void {
    const log = this.#log
    if (!log || this.#changing) return
    const wanted = this.#isWanted()
    if (wanted ? log.inMemory : this.onDevice) return
    this.#changing = (wanted ? this.#toMemory(log) : this.#toDevice(log))
      .catch((error: unknown) => this.#side.context.fatal('log cannot be written', error))
      .finally(() => {
        this.#changing = undefined
        this.#side.owner?.check()
        this.#side.kick()
      })
  }

  /** For a planned end: nothing is lost with the memory. */
  async end(): Promise<void> {
    this.#ending = true
    await this.#changing
    if (this.#log && !this.onDevice) await this.#toDevice(this.#log)
  }

  /** The log begins anew. */
  forget(): void {
    this.#log?.forget()
  }

  #isWanted(): boolean {
    const { record, mail, recordIsDurable, owner, greeted, ownsRecord, context } = this.#side
    if (this.#ending || context.resting() !== 'NO' || record?.mirrored !== true) return false
    if (!recordIsDurable || mail.state !== 'Complete') return false
    return ownsRecord ? owner?.partnership?.dissolved === false : greeted
  }

  async #toMemory(log: MemoryLog): Promise<void> {
    await this.#side.context.mailbox.changeSide(this.#side.name, { memoryLog: true })
    if (this.#isWanted()) log.inMemory = true
  }

  async #toDevice(log: MemoryLog): Promise<void> {
    log.inMemory = false
    await log.persist()
    await this.#side.context.mailbox.changeSide(this.#side.name, { memoryLog: false })
  }
}

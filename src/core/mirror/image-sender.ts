/**
 * The images that a mirror's source sends: one at a time, always the newest that is durable on every copy here; and the pins that it keeps for that.
 */
import { waiting } from '../std/ranks.ts'
import { imageToSend } from './decisions.ts'
import type { SourceHost } from './source-host.ts'

export class ImageSender {
  readonly #host: SourceHost
  /** Blocks that may be on their way. */
  readonly #blocksMax: number
  /** Newest image that is complete at the destination, the one that is durable there, and the one that will be when the consistency point under way there ends; 0: none. */
  complete = 0
  durable = 0
  frozen = 0
  #inFlight: { readonly from: number; readonly to: number } | undefined
  #streams = 0
  #blocksOut = 0
  #sent = 0
  #blocks = 0
  #waiters: (() => void)[] = []

  constructor(host: SourceHost, blocksMax: number) {
    this.#host = host
    this.#blocksMax = blocksMax
  }

  /** Of the blocks of the image on its way. */
  get percent(): number {
    return this.#blocks === 0 ? 0 : Math.min(100, Math.floor((100 * this.#sent) / this.#blocks))
  }

  resumed(image: number, durable: number, frozen: number): void {
    this.complete = image
    this.durable = durable
    this.frozen = frozen
    this.#blocksOut = 0
    this.#inFlight = undefined
  }

  /** Nothing is on its way any more. */
  stop(): void {
    this.#streams += 1
    this.#inFlight = undefined
    this.#moved()
  }

  completed(image: number): void {
    this.complete = Math.max(this.complete, image)
    this.#inFlight = undefined
  }

  taken(blocks: number): void {
    this.#blocksOut -= blocks
    this.#moved()
  }

  /** Begins to send the next image, if there is one to be sent now. */
  next(): void {
    const pins = this.#host.pins()
    const newest = pins.at(-1)
    const image = imageToSend(newest?.image ?? 0, this.complete, this.#inFlight?.to ?? 0)
    if (newest === undefined || image === 0) return
    const from = pins.find((pin) => pin.image === this.complete)
    if (from === undefined && this.complete !== 0) return
    this.#inFlight = { from: this.complete, to: image }
    this.#sent = 0
    this.#blocks = newest.blocks
    const stream = ++this.#streams
    const current = (): boolean => this.#streams === stream
    const room = async (blocks: number): Promise<boolean> => {
      while (current() && this.#blocksOut + blocks > this.#blocksMax) {
        await waiting('source', 'destination', new Promise<void>((resolve) => this.#waiters.push(resolve)))
      }
      if (current()) {
        this.#blocksOut += blocks
        this.#sent += blocks
      }
      return current()
    }
    this.#host.stream(from, newest, room).catch((error: unknown) => {
      if (!current()) return
      this.#inFlight = undefined
      this.#host.log('mirror image cannot be read', { cause: String(error) })
    })
  }

  /**
   * Images that neither the destination has, nor are on their way, nor are the newest, are let go. One that was complete there, and was not said to be frozen before the next one was complete, is
   * no more.
   */
  prune(): void {
    const pins = this.#host.pins()
    const needed = [
      this.#host.broken.noPin === true ? undefined : this.durable,
      this.frozen,
      this.complete,
      this.#inFlight?.from,
      this.#inFlight?.to,
      pins.at(-1)?.image,
    ]
    for (const { image } of pins) if (!needed.includes(image)) this.#host.unpin(image)
  }

  #moved(): void {
    for (const resolve of this.#waiters.splice(0)) resolve()
  }
}

/**
 * The conversions of a filer: those of the sides that it serves are driven here (store-converter.ts), as they are desired. One that was cut over goes on although nobody asks for it any more.
 */
import type { AggregateStore } from './aggregate-store.ts'
import type { ConversionsOptions, ConversionStatus, DesiredConversion } from './conversions-context.ts'
import { StoreConverter } from './store-converter.ts'

export class Conversions {
  readonly #options: ConversionsOptions
  readonly #converters = new Map<string, StoreConverter>()
  #desired: readonly DesiredConversion[] = []

  constructor(options: ConversionsOptions) {
    this.#options = options
  }

  set desired(desired: readonly DesiredConversion[]) {
    this.#desired = desired
    for (const converter of this.#converters.values()) converter.desire(desired)
  }

  opened(side: string, store: AggregateStore): void {
    const converter = new StoreConverter({ ...this.#options, store })
    this.#converters.set(side, converter)
    converter.desire(this.#desired)
  }

  closed(side: string): void {
    this.#converters.get(side)?.stop()
    this.#converters.delete(side)
  }

  /** Of the sides that are served here. */
  status(): ConversionStatus[] {
    return [...this.#converters.values()].flatMap((converter) => converter.status())
  }
}

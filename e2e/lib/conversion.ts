/** A Conversion in an embedded instance, as a person orders it and looks at it. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ConversionSpec, ConversionStatus } from '../../src/api/v1alpha1/conversion.ts'
import { CONVERSIONS } from '../../src/edge/kube/resources.ts'
import type { Embedded } from './embedded.ts'

type Order = Partial<Omit<ConversionSpec, 'volumeName' | 'aggregate'>>

/** Manifest of the traditional volume `archive` of pair east, on devices of their own at filer b. */
export const archive = (count: number, size: string): string => `
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: archive }
spec:
  pairName: east
  type: Traditional
  filer: b
  deviceSets: [{ name: d, count: ${count}, size: ${size} }]
  export: { rules: [{ clients: [0.0.0.0/0], access: ReadWrite, squash: None }] }
`

export class Conversion {
  readonly #pair: Embedded
  readonly #name: string
  readonly #aggregate: string

  /** Named as the volume. */
  constructor(pair: Embedded, name: string, aggregate: string) {
    this.#pair = pair
    this.#name = name
    this.#aggregate = aggregate
  }

  async ask(order: Order): Promise<void> {
    const file = join(this.#pair.folder, `conversion-${this.#name}.json`)
    const conversion = {
      apiVersion: 'tandem.storage/v1alpha1',
      kind: 'Conversion',
      metadata: { name: this.#name },
      spec: { volumeName: this.#name, aggregate: this.#aggregate, ...order },
    }
    writeFileSync(file, JSON.stringify(conversion))
    const answer = await this.#pair.tandem('apply', '-f', file)
    if (answer.status !== 0) throw new Error(answer.stdout + answer.stderr)
  }

  /** The object, not what was done. Resolves when it is gone. */
  async delete(): Promise<void> {
    const answer = await this.#pair.tandem('delete', 'conv', this.#name)
    if (answer.status !== 0) throw new Error(answer.stdout + answer.stderr)
  }

  async waitFor(condition: string, timeoutMs: number): Promise<void> {
    const object = `conv/${this.#name}`
    const goal = [object, `--for=condition=${condition}`, `--timeout=${Math.ceil(timeoutMs / 1000)}s`]
    const answer = await this.#pair.tandem('wait', ...goal)
    if (answer.status === 0) return
    throw new Error(`${answer.stderr}${(await this.#pair.tandem('describe', 'conv', this.#name)).stdout}`)
  }

  async status(): Promise<ConversionStatus> {
    return (await this.#pair.api.get(CONVERSIONS, 'default', this.#name))['status'] ?? {}
  }
}

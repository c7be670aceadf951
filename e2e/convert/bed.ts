/** What `make convert` converts: a pair with a traditional volume and an aggregate for it, the load on the volume, and the Conversion. */
import { Load } from '../../src/nfs/load/load.ts'
import { archive, Conversion } from '../lib/conversion.ts'
import { Embedded } from '../lib/embedded.ts'
import { LargeFiles } from '../lib/large-files.ts'
import { until } from '../lib/process.ts'

export const WORKERS = 8
const SERVED_WITHIN_MS = 60_000

const manifests = (deviceMi: number): string => `
apiVersion: tandem.storage/v1alpha1
kind: FilerPair
metadata: { name: east }
spec:
  aggregates:
    - { name: aggr1, filer: a, deviceSets: [{ name: d, count: 1, size: 128Mi }] }
    - { name: aggr2, filer: b, deviceSets: [{ name: d, count: 1, size: ${deviceMi}Mi }] }
  log: { size: 32Mi }
  cacheSize: 128Mi
  placement: { spread: Preferred }
  takeover: { givebackDelay: 1s }
---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: home }
spec: { pairName: east, aggregate: aggr1, size: 64Mi }
---${archive(2, `${deviceMi}Mi`)}`

export interface Size {
  readonly files: number
  /** Of the files that are only read. */
  readonly largeBytes: number
  readonly seed: number
}

export class ConvertBed {
  readonly pair: Embedded
  readonly conversion: Conversion
  load!: Load
  large!: LargeFiles

  private constructor(pair: Embedded) {
    this.pair = pair
    this.conversion = new Conversion(pair, 'archive', 'aggr2')
  }

  static async start({ files, largeBytes }: Size): Promise<ConvertBed> {
    // Small files take 20 KiB on the average, and may all be written anew before the devices join.
    const deviceMi = Math.max(256, Math.ceil(files / 25 + (0.6 * largeBytes) / 2 ** 20))
    return new ConvertBed(await Embedded.start('convert', manifests(deviceMi)))
  }

  async fill({ files, largeBytes, seed }: Size): Promise<void> {
    const mount = await this.pair.mountPoint('archive')
    const each = Math.ceil(files / WORKERS)
    const options = { seed, filesPerWorker: each, filesMax: each + 10 }
    this.load = await Load.open([{ mount, workers: WORKERS }], options)
    this.large = await LargeFiles.write(mount, largeBytes, seed)
  }

  resume(): void {
    this.load.resume()
    this.large.resume()
  }

  async pause(): Promise<void> {
    await this.load.pause()
    await this.large.pause()
    this.assertWell()
  }

  assertWell(): void {
    this.load.assertWell()
    this.large.assertWell()
  }

  close(): void {
    this.load?.close()
    this.large?.close()
  }

  /** Whether the load runs or not. */
  async served(): Promise<void> {
    const { compared } = this.large
    const operations = this.load.operations
    let read: Promise<void> | undefined
    if (this.load.isPaused) read = this.large.readOne()
    const goes = (): boolean =>
      this.large.compared > compared && (this.load.isPaused || this.load.operations > operations + WORKERS)
    await until('clients are served', SERVED_WITHIN_MS, () => {
      this.assertWell()
      return goes()
    })
    await read
  }

  /** Everything read back and compared, while paused. Gives the bytes. */
  async verify(): Promise<number> {
    const { differences, bytes } = await this.load.verify()
    if (differences.length > 0) throw new Error(differences.slice(0, 20).join('\n  '))
    return bytes + (await this.large.verify())
  }
}

/**
 * P9: a traditional volume becomes a flexible one in place, beside a copy of the same tree into a new flexible volume of the same pair. Real processes, real files.
 *
 *   node bench/conversion.ts [short|long]
 *
 * The copy makes the calls that rsync makes, over NFS and with several files at once (rsync has one): each file is read, written under another name, committed, given its mode and
 * time, and renamed. Rounds are interleaved: a copy, then a cut-over, which is undone again; after the last one the conversion goes on to its end. A client writes all the time, to the
 * volume that is converted; its longest wait is the pause. Every file is compared at the end, on both sides: one that differs is a failure, and so is a copied block of data.
 */
import { randomBytes } from 'node:crypto'
import { parseQuantity } from '../src/api/quantity.ts'
import { NfsClient } from '../src/nfs/client/nfs-client.ts'
import { Random } from '../src/nfs/load/random.ts'
import { archive, Conversion } from '../e2e/lib/conversion.ts'
import { Embedded } from '../e2e/lib/embedded.ts'
import type { Say, Section } from './report.ts'
import { median, sectionText, whole } from './report.ts'
import { concurrently } from './rig.ts'

const MIB = 2 ** 20
const AT_ONCE = 8
const PIECE_BYTES = 512 * 1024
const PER_DIRECTORY = 1000
/** Long enough that no round ends before it is undone. */
const SLOW = 10
const FAST = 1_000_000
const STEP_MS = 600_000
const GOAL_RATIO = 100
const GOAL_PAUSE_MS = 1000
const GOAL_LARGE_SHARE = 0.01
const GOAL_ESTIMATE = 0.2

interface Tree {
  readonly name: string
  readonly files: number
  /** Sizes are spread from 0 to twice this. */
  readonly meanBytes: number
}
interface Sizes {
  readonly trees: readonly Tree[]
  readonly rounds: number
}
const SHORT: Sizes = {
  rounds: 1,
  trees: [
    { name: 'small files', files: 1000, meanBytes: 20 * 1024 },
    { name: 'large files', files: 32, meanBytes: 3 * MIB },
  ],
}
const LONG: Sizes = {
  rounds: 3,
  trees: [
    { name: 'small files, few', files: 1000, meanBytes: 20 * 1024 },
    { name: 'small files', files: 100_000, meanBytes: 20 * 1024 },
    { name: 'large files', files: 512, meanBytes: 4 * MIB },
  ],
}

const manifests = (mebibytes: number): string => `
apiVersion: tandem.storage/v1alpha1
kind: FilerPair
metadata: { name: east }
spec:
  aggregates:
    - { name: aggr1, filer: b, deviceSets: [{ name: d, count: 1, size: ${mebibytes}Mi }] }
    - { name: aggr2, filer: b, deviceSets: [{ name: d, count: 1, size: ${mebibytes}Mi }] }
  log: { size: 128Mi }
  cacheSize: 256Mi
  placement: { spread: Preferred }
---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: home }
spec:
  pairName: east
  aggregate: aggr1
  size: ${mebibytes}Mi
  export: { rules: [{ clients: [0.0.0.0/0], access: ReadWrite, squash: None }] }
---${archive(1, `${mebibytes}Mi`)}`

/** All content is cut from one piece of noise. */
const noise = randomBytes(16 * MIB)

interface File {
  readonly directory: number
  readonly name: string
  readonly bytes: number
  readonly from: number
  /** In the volume that is converted. */
  handle: Uint8Array
}

const contentOf = ({ bytes, from }: File, at: number): Buffer => {
  const length = Math.min(PIECE_BYTES, bytes - at)
  const start = (from + at) % (noise.length - PIECE_BYTES)
  return noise.subarray(start, start + length)
}

async function each(file: Pick<File, 'bytes'>, visit: (at: number) => Promise<void>): Promise<void> {
  for (let at = 0; at < file.bytes; at += PIECE_BYTES) await visit(at)
}

class Bed {
  readonly pair: Embedded
  readonly client: NfsClient
  readonly conversion: Conversion
  readonly #roots: { archive: Uint8Array; home: Uint8Array }
  readonly files: File[] = []
  readonly #directories: Uint8Array[] = []

  private constructor(pair: Embedded, client: NfsClient, roots: { archive: Uint8Array; home: Uint8Array }) {
    this.pair = pair
    this.client = client
    this.conversion = new Conversion(pair, 'archive', 'aggr2')
    this.#roots = roots
  }

  static async start({ files, meanBytes }: Tree, rounds: number): Promise<Bed> {
    const bytes = files * (meanBytes + 8192)
    const pair = await Embedded.start(
      'bench-conversion',
      manifests(Math.ceil(512 + (1.3 * rounds * bytes) / MIB)),
    )
    await pair.redundant()
    await pair.condition('Ready', 'fv/archive', 60_000)
    const [archive, home] = [await pair.mountPoint('archive'), await pair.mountPoint('home')]
    const client = new NfsClient({ host: archive.host, port: archive.port })
    return new Bed(pair, client, {
      archive: await client.mount(archive.path),
      home: await client.mount(home.path),
    })
  }

  async #makeDirectory(root: Uint8Array, name: string): Promise<Uint8Array> {
    return (await this.client.mkdir(root, name)).handle!
  }

  async fill({ files, meanBytes }: Tree): Promise<void> {
    const random = new Random(9)
    for (let n = 0; n < files; n++) {
      const directory = Math.floor(n / PER_DIRECTORY)
      if (this.#directories[directory] === undefined)
        this.#directories.push(await this.#makeDirectory(this.#roots.archive, `directory-${directory}`))
      const bytes = random.below(2 * meanBytes)
      this.files.push({
        directory,
        name: `file-${n}`,
        bytes,
        from: random.below(noise.length),
        handle: new Uint8Array(),
      })
    }
    await this.#all(async (file) => {
      const folder = this.#directories[file.directory]!
      file.handle = (await this.client.create(folder, file.name, { mode: 'GUARDED', attributes: {} })).handle!
      await this.#write(file, file.handle)
    })
  }

  async #all(visit: (file: File) => Promise<void>): Promise<void> {
    const queue = [...this.files]
    await concurrently(AT_ONCE, AT_ONCE, async () => {
      for (let next = queue.pop(); next !== undefined; next = queue.pop()) await visit(next)
    })
  }

  async #write(file: File, handle: Uint8Array): Promise<void> {
    await each(file, async (at) => {
      await this.client.write(handle, at, contentOf(file, at), 'UNSTABLE')
    })
    await this.client.commit(handle)
  }

  /** With the calls of rsync, into a new directory of the other volume. Gives the directories. */
  async copy(name: string): Promise<Uint8Array[]> {
    const top = await this.#makeDirectory(this.#roots.home, name)
    const directories: Uint8Array[] = []
    for (const [n, from] of this.#directories.entries()) {
      await this.client.list(from)
      directories.push(await this.#makeDirectory(top, `directory-${n}`))
    }
    await this.#all(async (file) => {
      const from = await this.client.lookup(this.#directories[file.directory]!, file.name)
      const into = directories[file.directory]!
      const made = await this.client.create(into, `.${file.name}`, { mode: 'GUARDED', attributes: {} })
      await each(file, async (at) => {
        const { data } = await this.client.read(from.handle, at, Math.min(PIECE_BYTES, file.bytes - at))
        await this.client.write(made.handle!, at, data, 'UNSTABLE')
      })
      await this.client.commit(made.handle!)
      const { mode, mtime } = from.attributes
      await this.client.setattr(made.handle!, { mode, mtime })
      await this.client.rename(into, `.${file.name}`, into, file.name)
    })
    return directories
  }

  /** Throws at the first byte that is another. */
  async compare(handleOf: (file: File) => Promise<Uint8Array>): Promise<void> {
    await this.#all(async (file) => {
      const handle = await handleOf(file)
      await each(file, async (at) => {
        const wanted = contentOf(file, at)
        const { data } = await this.client.read(handle, at, wanted.length)
        if (!wanted.equals(data)) throw new Error(`${file.name} differs from byte ${at} on`)
      })
    })
  }

  get bytes(): number {
    return this.files.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  /** Somebody who writes while it happens; stop it to learn the longest wait in milliseconds. */
  async writer(): Promise<() => Promise<number>> {
    const { archive } = this.#roots
    const made = await this.client.create(archive, 'writer', { mode: 'UNCHECKED', attributes: {} })
    const data = noise.subarray(0, 4096)
    let longest = 0
    let running = true
    const done = (async () => {
      for (let n = 0; running; n++) {
        const began = performance.now()
        await this.client.write(made.handle!, (n % 16) * data.length, data)
        longest = Math.max(longest, performance.now() - began)
      }
    })()
    return async () => {
      running = false
      await done
      return longest
    }
  }

  async stop(keep: boolean): Promise<void> {
    this.client.close()
    await this.pair.stop(keep)
  }
}

interface Outcome {
  readonly tree: Tree
  readonly bytes: number
  readonly copySeconds: number
  readonly servedSeconds: number
  readonly pauseMs: number
  readonly completeSeconds: number
  readonly metadataBytes: number
  readonly estimatedBytes: number
  readonly dataBlocksCopied: number
}

async function measure(tree: Tree, rounds: number, say: Say): Promise<Outcome> {
  const bed = await Bed.start(tree, rounds)
  const { conversion } = bed
  let keep = true
  try {
    await bed.fill(tree)
    const copies: number[] = []
    const served: number[] = []
    const pauses: number[] = []
    let began = 0
    for (let round = 1; round <= rounds; round++) {
      began = performance.now()
      const directories = await bed.copy(`copy-${round}`)
      copies.push((performance.now() - began) / 1000)
      if (round === 1)
        await bed.compare(
          async (file) => (await bed.client.lookup(directories[file.directory]!, file.name)).handle,
        )
      await conversion.ask({ state: 'Checked', scanBlocksPerSecond: SLOW })
      await conversion.waitFor('Checked', STEP_MS)
      const stop = await bed.writer()
      began = performance.now()
      await conversion.ask({ state: 'Converted', scanBlocksPerSecond: SLOW })
      await conversion.waitFor('CutOver', STEP_MS)
      served.push((performance.now() - began) / 1000)
      pauses.push(await stop())
      say(
        `P9: ${tree.name}: copied in ${copies.at(-1)!.toFixed(1)} s, cut over in ${served.at(-1)!.toFixed(1)} s`,
      )
      if (round === rounds) break
      const { cutOverID = '' } = await conversion.status()
      await conversion.ask({ state: 'RolledBack', discardChanges: cutOverID })
      await conversion.waitFor('RolledBack', STEP_MS)
    }
    await conversion.ask({ state: 'Converted', scanBlocksPerSecond: FAST })
    await conversion.waitFor('Complete', STEP_MS)
    const completeSeconds = (performance.now() - began) / 1000
    await bed.compare((file) => Promise.resolve(file.handle))
    const { metadata, dataBlocksCopied = -1 } = await conversion.status()
    keep = false
    return {
      tree,
      bytes: bed.bytes,
      copySeconds: median(copies),
      servedSeconds: median(served),
      pauseMs: Math.max(...pauses),
      completeSeconds,
      metadataBytes: parseQuantity(metadata?.actual ?? '') ?? NaN,
      estimatedBytes: parseQuantity(metadata?.estimated ?? '') ?? NaN,
      dataBlocksCopied,
    }
  } finally {
    await bed.stop(keep)
    if (keep) say(`P9: state and logs are kept in ${bed.pair.folder}`)
  }
}

function verdictsOf(outcomes: readonly Outcome[]): string[] {
  const judge = (text: string, good: boolean): string => `${text}: ${good ? 'reached' : 'missed'}`
  const ratio = Math.max(...outcomes.map((one) => one.copySeconds / one.servedSeconds))
  const pause = Math.max(...outcomes.map(({ pauseMs }) => pauseMs))
  const metadata = outcomes.map(({ tree, bytes, metadataBytes, estimatedBytes }) => {
    const isLarge = tree.meanBytes >= MIB
    const off = Math.abs(metadataBytes / estimatedBytes - 1)
    return isLarge
      ? judge(
          `${tree.name}: at most ${100 * GOAL_LARGE_SHARE} % of the data written`,
          metadataBytes <= GOAL_LARGE_SHARE * bytes,
        )
      : judge(`${tree.name}: metadata within ${100 * GOAL_ESTIMATE} % of the estimate`, off <= GOAL_ESTIMATE)
  })
  return [
    judge(
      `Served as flexible at most ${whole(ratio)} times sooner than by copying, wanted ${GOAL_RATIO} times`,
      ratio >= GOAL_RATIO,
    ),
    judge(
      `Longest wait of a client at a cut-over ${whole(pause)} ms, wanted ${whole(GOAL_PAUSE_MS)} ms`,
      pause <= GOAL_PAUSE_MS,
    ),
    ...metadata,
  ]
}

export async function conversionSection(long: boolean, say: Say): Promise<Section> {
  const { trees, rounds } = long ? LONG : SHORT
  const outcomes: Outcome[] = []
  for (const tree of trees) outcomes.push(await measure(tree, rounds, say))
  return {
    title: 'Conversion in place (P9)',
    notes: [
      'A traditional volume becomes a flexible one in place, beside a copy of the same tree into a new flexible volume of the same pair, with the calls of rsync and',
      `${AT_ONCE} files at once ([\`bench/conversion.ts\`](../bench/conversion.ts)). Medians of ${rounds} interleaved rounds. *Served* is the time from \`apply\` to \`CutOver\`; a copy serves nothing before its end. *Wait* is the longest call of a client that writes meanwhile.`,
    ],
    heads: [
      'Tree',
      'Data MiB',
      'Copy s',
      'Served s',
      'Ratio',
      'Wait ms',
      'Complete s',
      'Blocks copied',
      'Metadata KiB',
      'of data',
      'estimated KiB',
    ],
    rows: outcomes.map((one) => [
      `${whole(one.tree.files)} ${one.tree.name}`,
      whole(one.bytes / MIB),
      one.copySeconds.toFixed(1),
      one.servedSeconds.toFixed(1),
      whole(one.copySeconds / one.servedSeconds),
      whole(one.pauseMs),
      one.completeSeconds.toFixed(1),
      whole(one.dataBlocksCopied),
      whole(one.metadataBytes / 1024),
      `${((100 * one.metadataBytes) / one.bytes).toFixed(2)} %`,
      whole(one.estimatedBytes / 1024),
    ]),
    verdicts: verdictsOf(outcomes),
    failures: outcomes
      .filter(({ dataBlocksCopied }) => dataBlocksCopied !== 0)
      .map(
        ({ tree, dataBlocksCopied }) => `P9: ${tree.name}: ${dataBlocksCopied} blocks of data were copied`,
      ),
  }
}

if (import.meta.main) {
  const section = await conversionSection(process.argv[2] === 'long', (text) => console.log(text))
  console.log(sectionText(section))
  process.exitCode = section.failures.length === 0 ? 0 : 1
}

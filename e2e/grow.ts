/**
 * `make grow`: a pair on this machine gets devices and an aggregate while clients write. Real processes, real files, no cluster.
 *
 * The aggregate is filled until the server says NOSPC; then the pair's object asks for a second device, and for a new aggregate at the other filer.
 * The operator renews the filers one after the other; the writer must get on by itself, in the space that was added, and every byte must be there at the
 * end, on both copies, which `tandem check` proves consistent.
 */
import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import { NfsClient, NfsError } from '../src/nfs/client/nfs-client.ts'
import { Embedded } from './lib/embedded.ts'
import { Load } from '../src/nfs/load/load.ts'
import type { MountPoint } from '../src/nfs/load/load.ts'
import { run, sleep, until } from './lib/process.ts'
import { Steps } from './lib/steps.ts'

const pairOf = (aggregates: readonly string[]): string => `
apiVersion: tandem.storage/v1alpha1
kind: FilerPair
metadata: { name: east }
spec:
  aggregates:
${aggregates.map((aggregate) => `    - ${aggregate}`).join('\n')}
  log: { size: 32Mi }
  cacheSize: 64Mi
  placement: { spread: Preferred }
  takeover: { givebackDelay: 1s }
`
const volumeOf = (name: string, aggregate: string, size: string): string => `---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: ${name} }
spec:
  pairName: east
  aggregate: ${aggregate}
  size: ${size}
  export: { rules: [{ clients: [0.0.0.0/0], access: ReadWrite, squash: None }] }
`
const aggr0 = '{ name: aggr0, filer: b, deviceSets: [{ name: d, count: 1, size: 256Mi }] }'
const small = pairOf([aggr0, '{ name: aggr1, filer: a, deviceSets: [{ name: d, count: 1, size: 128Mi }] }'])
const large = pairOf([
  aggr0,
  '{ name: aggr1, filer: a, deviceSets: [{ name: d, count: 2, size: 128Mi }, { name: e, count: 1, size: 128Mi }] }',
  '{ name: aggr2, filer: b, deviceSets: [{ name: d, count: 1, size: 128Mi }] }',
])
const volumes = volumeOf('work', 'aggr0', '128Mi') + volumeOf('home', 'aggr1', '1Gi')
const traditionalOf = (count: number): string => `---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: own }
spec:
  pairName: east
  type: Traditional
  filer: b
  deviceSets: [{ name: d, count: ${count}, size: 64Mi }]
  export: { rules: [{ clients: [0.0.0.0/0], access: ReadWrite, squash: None }] }
`
const CHUNK = 1 << 18

interface PairStatus {
  status?: {
    aggregates?: {
      name: string
      size?: string
      devices?: number
      waitingDevices?: { name: string; reason: string }[]
    }[]
  }
}

/** One file that grows by blocks which tell their number. */
class Filler {
  readonly client: NfsClient
  readonly #mount: MountPoint
  #file: Uint8Array = new Uint8Array()
  bytes = 0

  constructor(mount: MountPoint) {
    this.client = new NfsClient({ host: mount.host, port: mount.port, machine: 'filler' })
    this.#mount = mount
  }

  async prepare(): Promise<void> {
    const root = await this.client.mount(this.#mount.path)
    const made = await this.client.create(root, 'filler', { mode: 'GUARDED', attributes: { mode: 0o644 } })
    this.#file = made.handle ?? (await this.client.lookup(root, 'filler')).handle
  }

  #chunk(at: number): Buffer {
    const chunk = Buffer.alloc(CHUNK)
    for (let block = 0; block < CHUNK; block += 4096) {
      for (let word = 0; word < 4096; word += 4)
        chunk.writeUInt32LE((at + block + word * 2654435761) >>> 0, block + word)
    }
    return chunk
  }

  /** False when there is no space. */
  async more(): Promise<boolean> {
    try {
      await this.client.write(this.#file, this.bytes, this.#chunk(this.bytes), 'FILE_SYNC')
      this.bytes += CHUNK
      return true
    } catch (error) {
      if (error instanceof NfsError && error.status === 'NOSPC') return false
      throw error
    }
  }

  async verify(): Promise<void> {
    for (let at = 0; at < this.bytes; at += CHUNK) {
      const { data } = await this.client.read(this.#file, at, CHUNK)
      if (!this.#chunk(at).equals(data))
        throw new Error(`the filler's bytes at ${at} are not what was written`)
    }
  }
}

async function statusOf(pair: Embedded): Promise<NonNullable<PairStatus['status']>> {
  const answer = await pair.tandem('get', 'fp', 'east', '-o', 'json')
  if (answer.status !== 0) throw new Error(answer.stderr)
  return (JSON.parse(answer.stdout) as PairStatus).status ?? {}
}

async function apply(pair: Embedded, manifests: string): Promise<void> {
  const file = join(pair.folder, 'change.yaml')
  writeFileSync(file, manifests)
  const answer = await pair.tandem('apply', '-f', file)
  if (answer.status !== 0) throw new Error(answer.stdout + answer.stderr)
}

await run([join(import.meta.dirname, 'setup.sh'), 'crash'])
const steps = new Steps()
const pair = await Embedded.start('grow', small + volumes)
let load: Load | undefined
let filler: Filler | undefined
let own: Filler | undefined
let failed = true
try {
  await pair.redundant()
  load = await Load.open([{ mount: await pair.mountPoint('work'), workers: 4 }], { seed: 1 })
  load.resume()
  filler = new Filler(await pair.mountPoint())
  await filler.prepare()
  const writer = filler
  let full = 0
  await steps.step('the aggregate is filled beside other clients', async () => {
    while (await writer.more());
    full = writer.bytes
    return `${full >> 20} MiB in one file`
  })
  await steps.step('devices and an aggregate are asked for', () => apply(pair, large))
  await steps.step('both filers are renewed, and the devices join', async () => {
    let told = ''
    await until('three devices, none waiting', 240_000, async () => {
      const status = await statusOf(pair)
      const aggr1 = status.aggregates?.find(({ name }) => name === 'aggr1')
      told = JSON.stringify(aggr1)
      return aggr1?.devices === 3 && (aggr1.waitingDevices ?? []).length === 0
    })
    await pair.redundant()
    return told
  })
  await steps.step('the writer goes on in what was added', async () => {
    const wanted = full + (180 << 20)
    await until('180 MiB more', 120_000, async () => {
      while (writer.bytes < wanted && (await writer.more()));
      if (writer.bytes < wanted) await sleep(200)
      return writer.bytes >= wanted
    })
    return `${(writer.bytes - full) >> 20} MiB more`
  })
  await steps.step('a volume is made in the new aggregate', async () => {
    await apply(pair, large + volumes + volumeOf('second', 'aggr2', '64Mi'))
    await pair.condition('Ready', 'fv/second', 120_000)
  })
  await steps.step('a traditional volume comes, is filled, and grows', async () => {
    const others = large + volumes + volumeOf('second', 'aggr2', '64Mi')
    await apply(pair, others + traditionalOf(1))
    await pair.condition('Ready', 'fv/own', 120_000)
    own = new Filler(await pair.mountPoint('own'))
    await own.prepare()
    while (await own.more());
    const first = own.bytes
    await apply(pair, others + traditionalOf(2))
    await until('40 MiB more', 240_000, async () => {
      while (own!.bytes < first + (40 << 20) && (await own!.more()));
      if (own!.bytes < first + (40 << 20)) await sleep(200)
      return own!.bytes >= first + (40 << 20)
    })
    return `${first >> 20} MiB, then ${(own.bytes - first) >> 20} MiB more`
  })
  await steps.step('every byte is there', async () => {
    await load!.pause()
    const { differences } = await load!.verify()
    if (differences.length > 0) throw new Error(differences.slice(0, 20).join('\n  '))
    await writer.verify()
    await own?.verify()
    const pauses = [load!.clients[0]!, writer.client].map(({ rpc }) => Math.round(rpc.longestGapMs))
    return `${load!.operations} operations compared, longest pauses ${pauses.join(' and ')} ms`
  })
  await steps.step('both copies are consistent', async () => {
    load!.close()
    writer.client.close()
    own?.client.close()
    await pair.redundant()
    await pair.down()
    await pair.check()
  })
  failed = false
} catch (error) {
  console.log(error instanceof Error ? error.message : String(error))
  console.log(`state and logs: ${pair.folder}`)
} finally {
  load?.close()
  filler?.client.close()
  own?.client.close()
  await pair.stop(failed)
}
console.log(steps.table())
console.log(steps.summary('grow'))
process.exitCode = failed ? 1 : 0

/**
 * What the partner, or whoever has its certificate, sends over an interconnect: batches of frames damaged as bytes, through the codec into a connection manager that is in the middle of its
 * work. A batch that is none ends its stream; what decodes is the manager's to judge. After a new start the two find together.
 */
import { Bench, CheckedClient, codeOf, FENCE } from '../../core/connection/testing/filers.ts'
import { decodeBatch, EncodedBatch, WireError } from '../../edge/grpc/codec.ts'
import type { Target } from '../target.ts'
import { mutated } from '../target.ts'

const BATCHES = 150
const SETTLE_MS = 120_000

export const frames: Target = {
  name: 'frames',
  meaning: 'interconnect batches: codec and connection manager',
  async run(random) {
    const bench = new Bench(random.u32(), random.chance(0.5) ? ['one'] : ['one', 'two'])
    const { world } = bench
    const filers = [bench.filer('a'), bench.filer('b')] as const
    const clients = filers.map((filer) => new CheckedClient(filer, { ports: 1, regionBytes: [65536] }))
    let inputs = 0
    let damaging = false
    bench.onBatch = ({ frames: batch }) => {
      if (!damaging || !random.chance(0.3)) return batch
      inputs += 1
      const encoded = new EncodedBatch(batch)
      const bytes = new Uint8Array(encoded.length)
      encoded.writeTo(bytes)
      const damaged = mutated(random, bytes)
      const cut = random.below(damaged.length + 1)
      try {
        return decodeBatch([damaged.subarray(0, cut), damaged.subarray(cut)])
      } catch (error) {
        if (error instanceof WireError) return undefined
        throw error
      }
    }
    filers.forEach((filer, i) => {
      filer.manager.register(clients[i]!)
      filer.manager.start()
    })
    await world.until(() => clients.every((client) => client.channel !== undefined), SETTLE_MS, 'channels')
    damaging = true
    for (let round = 0; inputs < BATCHES && round < 2000; round++) {
      for (const client of clients) {
        const { channel } = client
        if (channel === undefined) continue
        // What comes of it is the other end's answer to damage: any code will do.
        const ignored = (error: unknown): void => void codeOf(error)
        channel.write(0, random.below(60000), [new Uint8Array(100)], FENCE).catch(ignored)
        channel.read(0, 0, 50, FENCE).catch(ignored)
      }
      await world.run(20)
    }
    damaging = false
    bench.onBatch = undefined
    // A partner is believed in what it says of itself (addresses, the revision of its list), so damage of that kind lasts; a new start of both ends it.
    for (const { process } of filers) process.kill()
    const restarted = (['a', 'b'] as const).map((name) => {
      const filer = bench.filer(name)
      const client = new CheckedClient(filer, { ports: 1, regionBytes: [65536] })
      filer.manager.register(client)
      filer.manager.start()
      return client
    })
    await world.until(
      () => restarted.every((client) => client.channel !== undefined),
      SETTLE_MS,
      'channels again',
    )
    return Math.max(1, inputs)
  },
}

/**
 * Whatever an NFS client sends: records, RPC headers and the arguments of every procedure, damaged, through the real connection code to a real volume (file layer,
 * block layer, consistency points). Each stream must be answered or closed, nothing may throw, no memory may stay, and the volume must be
 * consistent at the end.
 */
import { FilerVfs } from '../../core/filer/filer-vfs.ts'
import type { ServedVolume } from '../../core/filer/filer-vfs.ts'
import { encodeHandle } from '../../core/fs/handle.ts'
import { Stack } from '../../core/fs/testing/stack.ts'
import type { Export } from '../../core/vfs/vfs.ts'
import { corpus, damage, HEADER_BYTES } from '../../nfs/testing/call-corpus.ts'
import { marked, Wire } from '../../nfs/testing/wire.ts'
import type { SimRandom } from '../../sim/world.ts'
import type { Target } from '../target.ts'

const STREAMS = 60
const CALLS = 8
const ROOT = { uid: 0, gid: 0, gids: [] }
const HANDLE_BYTES = 32

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** A handle that is ours by its checksum, of some object that may or may not be there. */
function forgeHandles(random: SimRandom, stack: Stack, call: Buffer): void {
  const handle = encodeHandle(stack.bed.env.crc32, stack.fs.fsid, random.below(40), 1 + random.below(3))
  for (let at = HEADER_BYTES; at + 4 + HANDLE_BYTES <= call.length; at += 4) {
    if (call.readUInt32BE(at) === HANDLE_BYTES) call.set(handle, at + 4)
  }
}

export const rpc: Target = {
  name: 'rpc',
  meaning: 'records, RPC and NFSv3 and MOUNT calls to a real volume',
  async run(random) {
    const stack = new Stack(random.u32(), random.chance(0.3) ? 'Traditional' : 'Flexible')
    await stack.make()
    const root = await stack.fs.rootHandle()
    const made = await stack.fs.create(ROOT, root, 'file', { mode: 'GUARDED', attributes: { mode: 0o666 } })
    if (!made.ok) throw new Error(made.status)
    const file = made.object.handle
    await stack.fs.write(ROOT, file, 0, new Uint8Array(20_000).fill(1), 'FILE_SYNC')
    const rules: Export['rules'] = [{ clients: ['*'], access: 'ReadWrite', squash: 'None' }]
    const served: ServedVolume = { files: stack.fs, export: { path: '/v', volume: 'v', rules, root } }
    const vfs = new FilerVfs({
      byFsid: (fsid) => (fsid === stack.fs.fsid ? served : undefined),
      served: () => [served],
      opening: () => false,
    })
    const below = (limit: number): number => random.below(limit)
    const calls = corpus('/v', root, file)
    const first = new Wire(vfs)
    const { server } = first
    for (let stream = 0; stream < STREAMS; stream++) {
      const wire = new Wire(vfs, {}, { server })
      const parts = Array.from({ length: CALLS }, () => {
        const call = Buffer.from(random.pick(calls))
        const other = random.pick(calls)
        if (random.chance(0.1)) return marked(damage(below, call, other))
        if (random.chance(0.4)) forgeHandles(random, stack, call)
        if (random.chance(0.2)) return marked(call)
        const body = damage(below, call.subarray(HEADER_BYTES), other.subarray(HEADER_BYTES))
        return marked(Buffer.concat([call.subarray(0, HEADER_BYTES), body]))
      })
      const bytes = Buffer.concat(parts)
      if (random.chance(0.1)) bytes[4 * random.below(2)]! ^= 1 << random.below(8)
      wire.feed(bytes, 1 + random.below(2000))
      await turn()
      wire.replies()
      wire.connection.close()
      if (random.chance(0.05)) await stack.consistencyPoint()
    }
    first.connection.close()
    for (let turns = 0; turns < 100 && server.memoryBytes > 0; turns++) await turn()
    if (server.connections !== 0 || server.memoryBytes !== 0) {
      throw new Error(`${server.connections} connections and ${server.memoryBytes} bytes stay`)
    }
    await stack.fs.reclaim()
    await stack.consistencyPoint()
    await stack.consistencyPoint()
    const problems = await stack.problems()
    if (problems.length > 0) throw new Error(`the volume is damaged: ${problems.slice(0, 5).join('; ')}`)
    return STREAMS * CALLS
  },
}

/**
 * Blocks of an image changed, with checksums and contexts that hold, so that what parses them is tried and not the checksum: open, check, read everything, change
 * things, make images of that. What contradicts itself must be told by the check, answered with IO, or end a consistency point before its image counts; nothing may throw,
 * loop or be taken for other files' data.
 */
import { checkAggregate } from '../../core/block/check.ts'
import { checkVolumeFiles } from '../../core/block/check-files.ts'
import { putContext, getContext } from '../../core/block/context.ts'
import { AggregateError } from '../../core/block/errors.ts'
import { GROUP_BLOCKS } from '../../core/block/layout.ts'
import { DamagedBlock } from '../../core/fs/block-store.ts'
import { putU48 } from '../../core/fs/bytes.ts'
import { Stack } from '../../core/fs/testing/stack.ts'
import type { FileSystem } from '../../core/fs/volume.ts'
import type { SimRandom } from '../../sim/world.ts'
import type { SimMedium } from '../../sim/device.ts'
import { mutate } from '../target.ts'
import type { Target } from '../target.ts'

const ROOT = { uid: 0, gid: 0, gids: [] }
const IMAGES = 6
const OBJECTS_MAX = 400

interface Base {
  readonly media: readonly SimMedium[]
  /** PVBNs in use, with the kind of each. */
  readonly used: readonly number[]
}
const bases = new Map<string, Promise<Base>>()

/** A volume with a bit of everything. */
async function makeBase(type: 'Flexible' | 'Traditional'): Promise<Base> {
  const stack = new Stack(7, type)
  await stack.make()
  const { fs } = stack
  const root = await fs.rootHandle()
  const ok = <T extends { ok: boolean }>(result: T): Extract<T, { ok: true }> => {
    if (!result.ok) throw new Error('the base cannot be made')
    return result as Extract<T, { ok: true }>
  }
  const dir = ok(await fs.mkdir(ROOT, root, 'large', {})).object.handle
  for (let i = 0; i < 150; i++) {
    const made = ok(
      await fs.create(ROOT, i < 30 ? root : dir, `file-${i}`, { mode: 'GUARDED', attributes: {} }),
    )
    if (i % 7 === 0)
      ok(await fs.write(ROOT, made.object.handle, i * 1e5, new Uint8Array(9000).fill(i), 'FILE_SYNC'))
  }
  ok(await fs.symlink(ROOT, root, 'short', 'a/b', {}))
  ok(await fs.symlink(ROOT, root, 'long', 'x'.repeat(600), {}))
  const key = { machine: 'm', xid: 1, procedure: 9, checksum: 1 }
  ok(await fs.mkdir(ROOT, root, 'kept', {}, { key, encode: () => new Uint8Array(40) }))
  for (let i = 30; i < 60; i++) ok(await fs.remove(ROOT, dir, `file-${i}`))
  await fs.reclaim()
  await stack.consistencyPoint()
  await stack.consistencyPoint()
  const { layout, space } = stack.aggregate
  const used: number[] = []
  for (let pvbn = 1; pvbn < layout.end; pvbn++) if (layout.exists(pvbn) && space.isBusy(pvbn)) used.push(pvbn)
  return { media: stack.bed.media[0]!.map((medium) => medium.copy()), used }
}

function base(type: 'Flexible' | 'Traditional'): Promise<Base> {
  let made = bases.get(type)
  if (made === undefined) {
    made = makeBase(type)
    bases.set(type, made)
  }
  return made
}

/** Changes the block at `pvbn` on the media of a stack, with its context. */
function damageBlock(random: SimRandom, stack: Stack, pvbn: number, used: readonly number[]): void {
  const { layout, own } = stack.aggregate
  const { crc32 } = stack.bed.env
  const media = stack.bed.media[0]!
  const at = layout.locate(pvbn)
  const group = Math.floor(pvbn / GROUP_BLOCKS)
  const sumsAt = layout.locateChecksums(group)
  const sums = media[sumsAt.device]!.read(sumsAt.block)!.slice()
  const content = (media[at.device]!.read(at.block) ?? new Uint8Array(4096)).slice()
  const context = getContext(crc32, sums, pvbn % GROUP_BLOCKS)
  if (context === undefined || own === undefined) return
  // Metadata is dense at its front; and now and then a pointer leads to a block that exists.
  mutate(random, content, 0, random.chance(0.5) ? 512 : 4096)
  if (random.chance(0.2)) putU48(content, 6 * random.below(600), random.pick(used))
  const { volume, number, kind, generation } = context
  putContext(crc32, sums, pvbn % GROUP_BLOCKS, volume, number, kind, generation, pvbn, content)
  media[at.device]!.stable.set(at.block, content)
  media[sumsAt.device]!.stable.set(sumsAt.block, sums)
}

/** Reads what can be reached, and changes a little; every answer will do, an exception will not. */
async function use(fs: FileSystem): Promise<void> {
  const queue = [await fs.rootHandle()]
  for (let n = 0; n < queue.length && n < OBJECTS_MAX; n++) {
    const handle = queue[n]!
    const found = await fs.getattr(handle)
    if (!found.ok) continue
    const { type, size } = found.attributes
    if (type === 'REG') {
      await fs.read(ROOT, handle, Math.max(0, size - 9000), 9000, (bytes) => new Uint8Array(bytes))
      await fs.read(ROOT, handle, 0, 4096, (bytes) => new Uint8Array(bytes))
      if (n % 5 === 0) await fs.write(ROOT, handle, 100, new Uint8Array(5000), 'FILE_SYNC')
      if (n % 11 === 0) await fs.setattr(ROOT, handle, { size: 10 })
    } else if (type === 'LNK') await fs.readlink(ROOT, handle)
    else if (type === 'DIR') {
      for (let cookie = 0, pages = 0; pages < 20; pages++) {
        const page = await fs.readdir(ROOT, handle, cookie, new Uint8Array(8), 64, true)
        if (!page.ok) break
        for (const { object, name } of page.entries) {
          if (object !== undefined && name !== '.' && name !== '..') queue.push(object.handle)
        }
        const next = page.entries.at(-1)?.cookie
        if (page.eof || next === undefined || next <= cookie) break
        cookie = next
      }
      await fs.lookup(ROOT, handle, `file-${30 + n}`)
      await fs.create(ROOT, handle, `made-${n}`, { mode: 'UNCHECKED', attributes: {} })
      await fs.remove(ROOT, handle, `file-${n}`)
      await fs.rename(ROOT, handle, `file-${n + 1}`, queue[0]!, `moved-${n}`)
    }
  }
  await fs.duplicate(queue[0]!, { machine: 'm', xid: 1, procedure: 9, checksum: 1 })
  await fs.fsstat(queue[0]!)
  await fs.reclaim(20)
}

async function once(random: SimRandom): Promise<void> {
  const type = random.chance(0.3) ? 'Traditional' : 'Flexible'
  const { media, used } = await base(type)
  const stack = new Stack(7, type)
  stack.bed.media[0]!.splice(0, Infinity, ...media.map((medium) => medium.copy()))
  stack.bed.attach()
  stack.aggregate = await stack.open(true)
  for (let times = 1 + random.below(3); times > 0; times--)
    damageBlock(random, stack, random.pick(used), used)
  await stack.aggregate.close()
  stack.bed.attach()
  try {
    const checked = await stack.open(true)
    await checkAggregate(checked, { checkFiles: checkVolumeFiles })
    stack.bed.attach()
    stack.aggregate = await stack.open()
  } catch (error) {
    if (error instanceof AggregateError) return
    throw error
  }
  if (stack.aggregate.volume('v') === undefined) return
  await use(stack.fs)
  try {
    await stack.consistencyPoint()
    await stack.consistencyPoint()
  } catch (error) {
    if (!(error instanceof DamagedBlock)) throw error
  }
}

export const image: Target = {
  name: 'image',
  meaning: 'blocks of an image, checksums fixed up: open, check, read all, change',
  async run(random) {
    for (let i = 0; i < IMAGES; i++) await once(random)
    return IMAGES
  },
}

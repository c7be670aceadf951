/**
 * What `tandem inspect` shows of an aggregate's image, as plain values: superblock, volumes, inodes, directories, blocks and who owns them. Read-only; damage becomes a message where it is
 * met, never an exception of the host language. How it is printed is the command's business.
 */
import type { Aggregate } from '../../core/block/aggregate.ts'
import { getContext } from '../../core/block/context.ts'
import { decodeLabel } from '../../core/block/label.ts'
import { GROUP_BLOCKS, LABEL_BLOCK, ROOT_SLOTS } from '../../core/block/layout.ts'
import { OWNER_FANOUT, ownerIn } from '../../core/block/leaf-editor.ts'
import { decodeRoot } from '../../core/block/root.ts'
import type { Volume } from '../../core/block/volume.ts'
import { BLOCK_BYTES, DeviceError } from '../../core/env/device.ts'
import type { Env } from '../../core/env/env.ts'
import { DamagedBlock } from '../../core/fs/block-store.ts'
import { checkFileSystem } from '../../core/fs/check.ts'
import type { VisitedBlock } from '../../core/fs/check.ts'
import { Directory } from '../../core/fs/directory.ts'
import { INLINE, LISTED, SHRINKING, typeOfCode } from '../../core/fs/inode.ts'
import type { Inode } from '../../core/fs/inode.ts'
import { Inodes, ROOT_INO, rootProblem } from '../../core/fs/inodes.ts'
import { loaded } from '../../core/fs/tree.ts'
import type { PlexFiles } from './images.ts'
import type { OpenImage } from './open.ts'

export type Facts = Readonly<Record<string, unknown>>

/** What cannot be shown, in words for a person. */
export class InspectError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'InspectError'
  }
}

const RUNS_MAX = 1000

/** Runs a look that may meet damage. */
async function looked<T>(what: string, look: () => Promise<T>): Promise<T> {
  try {
    return await look()
  } catch (error) {
    if (!(error instanceof DamagedBlock)) throw error
    throw new InspectError(
      `${what}: ${error.bn === 0 ? 'what is there contradicts itself' : `block ${error.bn} is damaged`}`,
    )
  }
}

export async function superblock(env: Env, plex: PlexFiles): Promise<Facts> {
  const devices: Facts[] = []
  for (const { device } of plex.members) {
    const copies: Facts[] = []
    for (const block of [LABEL_BLOCK, device.blocks - 1]) {
      const bytes = new Uint8Array(BLOCK_BYTES)
      try {
        await device.read(block, bytes)
        const label = decodeLabel(env.crc32, bytes)
        copies.push({ block, ...(typeof label === 'object' ? label : { invalid: label ?? 'no label' }) })
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error
        copies.push({ block, invalid: error.message })
      }
    }
    devices.push({ device: device.name, blocks: device.blocks, labels: copies })
  }
  const roots: Facts[] = []
  const first = plex.members[0]!.device
  for (const slot of ROOT_SLOTS) {
    const bytes = new Uint8Array(BLOCK_BYTES)
    try {
      await first.read(slot, bytes)
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      roots.push({ slot, invalid: error.message })
      continue
    }
    const root = decodeRoot(env.crc32, bytes)
    if (root === undefined) {
      roots.push({ slot, invalid: bytes.every((byte) => byte === 0) ? 'empty' : 'no valid root' })
      continue
    }
    const { image, cp, epoch, covers, used, shared, ancestors, devices, properties, aggregateId } = root
    const lineage = ancestors.map((one) => ({ cp: one.cp, epoch: one.epoch }))
    roots.push({
      slot,
      image,
      aggregateId,
      cp,
      epoch,
      covers,
      blocksUsed: used,
      shared,
      ancestors: lineage,
      sizes: devices.map(({ blocks }) => blocks),
      firstBlocks: devices.map(({ first: at }) => at),
      properties,
    })
  }
  const { aggregateName, plex: number, side } = plex.label
  const live = roots
    .filter((root) => !('invalid' in root))
    .sort((a, b) => Number(b['cp']) - Number(a['cp']))[0]
  return { aggregate: aggregateName, side, plex: number, liveSlot: live?.['slot'] ?? null, roots, devices }
}

/** A volume by id, name or index. */
export function volumeOf(aggregate: Aggregate, word: string): Volume {
  const all = [...aggregate.volumes()]
  const found = all.find(({ id, name, index }) => id === word || name === word || String(index) === word)
  if (found === undefined) {
    const known = all.map(({ name }) => name).join(', ')
    throw new InspectError(`no volume ${JSON.stringify(word)}; there are: ${known === '' ? 'none' : known}`)
  }
  return found
}

function inodesOf(volume: Volume): Inodes {
  const problem = rootProblem(volume, volume.contentRoot)
  if (problem !== undefined) throw new InspectError(`volume ${volume.name}: ${problem}`)
  return new Inodes(volume, volume.contentRoot)
}

function brief(volume: Volume): Facts {
  const { index, id, name, type, fsid, sizeBytes, used, snapshots } = volume
  return {
    index,
    name,
    id,
    type,
    fsid: fsid.toString(16),
    sizeBytes,
    blocksUsed: used,
    snapshots: snapshots.images().length,
  }
}

/** What the aggregate took in, and how far it is. */
function converted({ old }: Aggregate): Facts {
  if (old === undefined) return {}
  const { record, state, cursor, pending, built, copied, changed } = old
  const { aggregate, first, cutOver, estimate } = record
  const [inodeBlock, inode, leaf] = cursor
  const scan = state === 'absent' ? { inodeBlock, inode, leaf } : 'done'
  const blocks = { firstBlock: first, lastBlock: old.end - 1, notMarked: pending }
  const written = { blocksBuilt: built, blocksEstimated: estimate, dataBlocksCopied: copied }
  return {
    converted: { from: aggregate, state, cutOver, scan, ...blocks, ...written, bytesChanged: changed },
  }
}

export const volumes = (aggregate: Aggregate): Facts => ({
  aggregate: aggregate.name,
  cp: aggregate.root.cp,
  blocks: aggregate.layout.data,
  blocksUsed: aggregate.usedBlocks,
  volumes: [...aggregate.volumes()].map(brief),
  removing: aggregate.removed.map(({ entry, reclaimed }) => ({
    index: entry.index,
    id: entry.id,
    reclaimed,
  })),
  ...converted(aggregate),
})

export function volume(aggregate: Aggregate, word: string): Facts {
  const found = volumeOf(aggregate, word)
  const facts = { ...brief(found), properties: found.properties }
  const held = found.snapshots
    .images()
    .map(({ id, name, used, deleting }) => ({ id, name, blocksUsed: used, deleting }))
  const { inoEnd, freeHead, shrinkHead, files, ringNext } = inodesOf(found)
  return {
    ...facts,
    files: {
      inodesInUse: files,
      inodeEnd: inoEnd,
      firstFree: freeHead,
      firstShrinking: shrinkHead,
      repliesKept: ringNext,
    },
    snapshotList: held,
  }
}

/** The inode of a number, or of a path from the volume's root. */
async function findInode(volume: Volume, inodes: Inodes, word: string): Promise<Inode> {
  const get = (ino: number): Promise<Inode> => looked(`inode ${ino}`, () => loaded(() => inodes.get(ino)))
  if (/^\d+$/.test(word)) {
    const ino = Number(word)
    if (!inodes.has(ino))
      throw new InspectError(`no inode ${word}: there are ${ROOT_INO} to ${inodes.inoEnd - 1}`)
    return get(ino)
  }
  let inode = await get(ROOT_INO)
  for (const name of word.split('/').filter((part) => part !== '')) {
    if (inode.type !== 'DIR')
      throw new InspectError(`${word}: what is before ${JSON.stringify(name)} is no directory`)
    const directory = new Directory(volume, inode, inodes.hashSeed)
    const bytes = Buffer.from(name).toString('latin1')
    const entry = await looked(`directory ${inode.ino}`, () => loaded(() => directory.find(bytes)))
    if (entry === undefined)
      throw new InspectError(`${word}: there is no ${JSON.stringify(name)} in inode ${inode.ino}`)
    inode = await get(entry.ino)
  }
  return inode
}

const time = ({ seconds, nanoseconds }: { seconds: number; nanoseconds: number }): string =>
  `${seconds}.${String(nanoseconds).padStart(9, '0')}`

interface Run {
  readonly fileBlock: number
  readonly number: number
  readonly pvbn: number
  blocks: number
}

/** Runs of leaves whose numbers and places follow one another. */
async function runsOf(volume: Volume, inode: Inode): Promise<{ runs: Run[]; more: boolean }> {
  const runs: Run[] = []
  let more = false
  await looked(`inode ${inode.ino}`, () =>
    inode.tree(volume).walk(async ({ level, fbn, bn }) => {
      if (level > 0) return true
      const last = runs.at(-1)
      const pvbn = await loaded(() => volume.lookup(bn))
      const follows =
        last !== undefined && fbn === last.fileBlock + last.blocks && bn === last.number + last.blocks
      if (follows && pvbn === last.pvbn + last.blocks) last.blocks += 1
      else if (runs.length < RUNS_MAX) runs.push({ fileBlock: fbn, number: bn, pvbn, blocks: 1 })
      else more = true
      return true
    }),
  )
  return { runs, more }
}

export async function inode(aggregate: Aggregate, volumeWord: string, word: string): Promise<Facts> {
  const found = volumeOf(aggregate, volumeWord)
  const inodes = inodesOf(found)
  const node = await findInode(found, inodes, word)
  const { ino, type, flags, generation, nlink } = node
  if (type === undefined) return { volume: found.name, inode: ino, type: 'free', generation, next: node.next }
  const { mode, uid, gid, size, atime, mtime, ctime, blocks } = node
  const flagNames = [
    [LISTED, 'listed'],
    [SHRINKING, 'shrinking'],
    [INLINE, 'inline'],
  ] as const
  const facts = {
    volume: found.name,
    inode: ino,
    type,
    generation,
    links: nlink,
    mode: mode.toString(8).padStart(4, '0'),
    uid,
    gid,
    size,
    blocks,
    flags: flagNames.filter(([flag]) => (flags & flag) !== 0).map(([, name]) => name),
    atime: time(atime),
    mtime: time(mtime),
    ctime: time(ctime),
  }
  if ((flags & INLINE) !== 0)
    return { ...facts, path: await looked('path', () => loaded(() => node.inlinePath)) }
  const special =
    type === 'DIR'
      ? { parent: node.parent, entries: node.entries, entryBlocks: node.entryBlocks, buckets: node.buckets }
      : {}
  if (!node.hasTreeRoot(found)) throw new InspectError(`inode ${ino} has an impossible root`)
  const level = await looked(`inode ${ino}`, () => loaded(() => node.tree(found).level))
  const { runs, more } = await runsOf(found, node)
  return {
    ...facts,
    ...special,
    treeLevel: level,
    runs,
    ...(more ? { note: `only the first ${RUNS_MAX} runs` } : {}),
  }
}

export async function directory(aggregate: Aggregate, volumeWord: string, word: string): Promise<Facts> {
  const found = volumeOf(aggregate, volumeWord)
  const inodes = inodesOf(found)
  const node = await findInode(found, inodes, word)
  if (node.type !== 'DIR')
    throw new InspectError(`inode ${node.ino} is no directory but ${node.type ?? 'free'}`)
  const list = new Directory(found, node, inodes.hashSeed)
  const entries: Facts[] = []
  for (let cookie = 2, eof = false; !eof;) {
    const from = cookie
    const page = await looked(`directory ${node.ino}`, () => loaded(() => list.list(from, 256)))
    for (const { name, ino, position, typeCode } of page.entries) {
      cookie = position + 3
      entries.push({
        cookie,
        inode: ino,
        type: typeOfCode(typeCode) ?? `? ${typeCode}`,
        name: Buffer.from(name, 'latin1').toString(),
      })
    }
    eof = page.eof
  }
  return { volume: found.name, inode: node.ino, parent: node.parent, entries }
}

/** Which object of a volume has a number; undefined if none has. */
async function objectWith(volume: Volume, number: number): Promise<Facts | undefined> {
  let found: VisitedBlock | undefined
  const seen = new Set<number>()
  const visits = checkFileSystem(volume, volume.contentRoot, (block) => {
    if (block.bn === number) found ??= block
    if (block.level === 0) return true
    // An indirect block may be below itself in a damaged tree.
    if (seen.has(block.bn)) return false
    seen.add(block.bn)
    return true
  })
  // Problems are the check's business.
  for await (const _ of visits) if (found !== undefined) break
  if (found === undefined) return undefined
  const { ino, fbn, level, kind } = found
  const object = ino === 0 ? 'inode file' : ino === 1 ? 'duplicate-request ring' : `inode ${ino}`
  return { object, kind, fileBlock: fbn, level, ...(level === 0 ? { fileOffset: fbn * BLOCK_BYTES } : {}) }
}

/** Where a block is: a converted volume's are on the devices that it came from until those join. */
function placeOf({ aggregate, source }: OpenImage, pvbn: number): { home: Aggregate; place: number } {
  const { layout, old } = aggregate
  if (source !== undefined && old?.exists(pvbn) === true)
    return { home: source, place: pvbn - old.record.first }
  if (layout.exists(pvbn)) return { home: aggregate, place: pvbn }
  const more = source === undefined ? '' : `, and ${old!.record.first} to ${old!.end - 1} of ${source.name}`
  throw new InspectError(
    `no block ${pvbn}: the image has 1 to ${layout.end - 1}${more}, with gaps between devices`,
  )
}

export async function block(image: OpenImage, pvbn: number): Promise<{ facts: Facts; content: Uint8Array }> {
  const { aggregate } = image
  const { env, space, old } = aggregate
  const { home, place } = placeOf(image, pvbn)
  const { device, block: at } = home.layout.locate(place)
  const sums = await home.own.readChecksums(Math.floor(place / GROUP_BLOCKS))
  const content = new Uint8Array(BLOCK_BYTES)
  await home.own.readData(place, content)
  const context = getContext(env.crc32, sums, place % GROUP_BLOCKS)
  const leaf = await looked('owner map', () =>
    loaded(() => aggregate.ownerMap.get(Math.floor(pvbn / OWNER_FANOUT))),
  )
  const owner = leaf === undefined ? undefined : ownerIn(leaf, pvbn, aggregate.type)
  const inUse = space.isBusy(pvbn)
  const facts = {
    pvbn,
    ...(old?.has(pvbn) === true
      ? { convertedFrom: { aggregate: old.record.aggregate, pvbn: pvbn - old.record.first } }
      : {}),
    device: home.own.devices[device]!.name,
    deviceBlock: at,
    deviceOffset: at * BLOCK_BYTES,
    inUse,
    context: context ?? 'damaged, or never written',
    checksum: context === undefined ? 'unknown' : context.crc === env.crc32(content) ? 'good' : 'WRONG',
  }
  if (!inUse) return { facts, content }
  const holder = owner === undefined || owner.volume === 0 ? undefined : aggregate.volumeAt(owner.volume)
  if (holder === undefined)
    return {
      facts: {
        ...facts,
        owner: { ...owner, volumeName: owner?.volume === 0 ? 'metafile of the aggregate' : 'removed' },
      },
      content,
    }
  const number = aggregate.type === 'Traditional' ? pvbn : owner!.number
  const user = (await objectWith(holder, number)) ?? 'no file has it now (a snapshot may)'
  return { facts: { ...facts, owner: { ...owner, volumeName: holder.name }, user }, content }
}

/** Where a number of a volume lies, and which object has it. */
export async function owner(aggregate: Aggregate, volumeWord: string, number: number): Promise<Facts> {
  const found = volumeOf(aggregate, volumeWord)
  const pvbn = await looked('container map', () => loaded(() => found.lookup(number)))
  const user = (await objectWith(found, number)) ?? 'no file has it now (a snapshot may)'
  return { volume: found.name, number, pvbn: pvbn === 0 ? 'none' : pvbn, user }
}

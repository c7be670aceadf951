/** READ, WRITE and COMMIT (RFC 1813, 3.3.6, 3.3.7, 3.3.21). */
import { BLOCK_BYTES } from '../../env/device.ts'
import { adjacent } from '../../std/adjacent.ts'
import { FILE_BYTES_MAX, IO_BYTES_MAX } from '../../vfs/vfs.ts'
import type { Caller, CommitResult, ReadResult, Status, WriteResult } from '../../vfs/vfs.ts'
import { DamagedBlock } from '../block-store.ts'
import type { Core } from '../core.ts'
import { Misses } from '../misses.ts'
import { mayReadData, mayWriteData, withoutSetId } from '../permissions.ts'
import type { Tree } from '../tree.ts'

export function read(
  core: Core,
  caller: Caller,
  handle: Uint8Array,
  offset: number,
  count: number,
  reserve: (bytes: number) => Uint8Array,
): ReadResult {
  const inode = core.resolve(handle)
  if (typeof inode === 'string') return { ok: false, status: inode }
  if (inode.type !== 'REG') {
    return { ok: false, status: inode.type === 'DIR' ? 'ISDIR' : 'INVAL', attributes: core.attributes(inode) }
  }
  if (!mayReadData(caller, inode)) return { ok: false, status: 'ACCES', attributes: core.attributes(inode) }
  const { size } = inode
  const bytes = Math.max(0, Math.min(count, size - offset, IO_BYTES_MAX))
  if (bytes === 0) {
    return { ok: true, attributes: core.attributes(inode), data: reserve(0), eof: offset >= size }
  }
  const tree = inode.tree(core.store)
  const within = offset % BLOCK_BYTES
  const first = (offset - within) / BLOCK_BYTES
  let data: Uint8Array
  if (within + bytes <= BLOCK_BYTES) {
    const block = tree.get(first)
    data = reserve(bytes)
    if (block === undefined) data.fill(0)
    else data.set(bytes === BLOCK_BYTES ? block : block.subarray(within, within + bytes))
  } else {
    data = readRun(core, tree, offset, bytes, reserve)
  }
  const eof = offset + data.length >= size
  return { ok: true, attributes: core.attributes(inode), data, eof }
}

/** What was asked for, or as much of it as lies before the first damaged block. */
function readRun(
  core: Core,
  tree: Tree,
  offset: number,
  bytes: number,
  reserve: (bytes: number) => Uint8Array,
): Uint8Array {
  const first = Math.floor(offset / BLOCK_BYTES)
  const blocks: (Uint8Array | undefined)[] = []
  const misses = new Misses()
  let end = offset + bytes
  for (let fbn = first; fbn * BLOCK_BYTES < end; fbn++) {
    try {
      blocks.push(misses.try(() => tree.get(fbn)))
    } catch (error) {
      if (!(error instanceof DamagedBlock) || fbn === first) throw error
      end = fbn * BLOCK_BYTES
    }
  }
  misses.throw(core.gate)
  const data = reserve(end - offset)
  for (let fbn = first; fbn * BLOCK_BYTES < end;) {
    const start = fbn * BLOCK_BYTES
    const from = Math.max(offset, start)
    const block = blocks[fbn++ - first]
    // What lies together is copied together.
    while (block !== undefined && fbn * BLOCK_BYTES < end) {
      const next = blocks[fbn - first]
      if (next === undefined || !adjacent(blocks[fbn - 1 - first]!, next)) break
      fbn += 1
    }
    const to = Math.min(end, fbn * BLOCK_BYTES)
    if (block === undefined) data.fill(0, from - offset, to - offset)
    else data.set(new Uint8Array(block.buffer, block.byteOffset + from - start, to - from), from - offset)
  }
  return data
}

/** Every write is logged before its answer, so UNSTABLE ones are answered as FILE_SYNC too. */
export function write(
  core: Core,
  caller: Caller,
  handle: Uint8Array,
  offset: number,
  data: Uint8Array,
): WriteResult {
  const inode = core.resolve(handle)
  if (typeof inode === 'string') return { ok: false, status: inode, wcc: {} }
  const fail = (status: Status): WriteResult => ({ ok: false, status, wcc: core.wccUnchanged(inode) })
  if (inode.type !== 'REG') return fail(inode.type === 'DIR' ? 'ISDIR' : 'INVAL')
  if (!mayWriteData(caller, inode)) return fail('ACCES')
  const end = offset + data.length
  if (data.length > IO_BYTES_MAX) return fail('INVAL')
  if (end > FILE_BYTES_MAX) return fail('FBIG')
  const { ino } = inode
  const done = {
    ok: true as const,
    count: data.length,
    committed: 'FILE_SYNC' as const,
    verifier: core.writeVerifier,
  }
  if (data.length === 0) return { ...done, wcc: core.wccUnchanged(inode) }
  if (end > inode.size) core.requireNoSurplus(inode)
  const before = inode.preAttributes()
  const mode = withoutSetId(caller, inode.mode)
  const change = { type: 'write' as const, ino, offset, mode, time: core.now(), data }
  const result = core.commit<WriteResult>(change, undefined, () => ({
    ...done,
    wcc: { before, after: core.attributesOf(ino) },
  }))
  return result ?? fail('NOSPC')
}

/** The answer waits for the file's last change; there is nothing else to do. */
export function commit(core: Core, handle: Uint8Array): CommitResult {
  const inode = core.resolve(handle)
  if (typeof inode === 'string') return { ok: false, status: inode, wcc: {} }
  return { ok: true, wcc: core.wccUnchanged(inode), verifier: core.writeVerifier }
}

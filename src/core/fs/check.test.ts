/** The checker is checked: each kind of damage to a good image is told. */
import { describe, expect, test } from '@jest/globals'
import { BLOCK_BYTES } from '../env/device.ts'
import { DUAL } from './block-store.ts'
import { putU32, putU48, putU64 } from './bytes.ts'
import { bucketFbn, entryFbn, GRANULE_BYTES, recordGranules, recordIno } from './directory.ts'
import type { Inode } from './inode.ts'
import { Inodes, ROOT_INO } from './inodes.ts'
import { good, problemsOf, ROOT, Volume } from './testing/harness.ts'
import type { Tree } from './tree.ts'

interface Image {
  readonly inodes: Inodes
  readonly root: Inode
  readonly tree: Tree
  readonly file: Inode
}

async function problemsAfter(damage: (image: Image) => void): Promise<string[]> {
  const volume = Volume.make(DUAL)
  const root = await volume.root()
  for (let i = 0; i < 200; i++) await good(volume.fs.mknod(ROOT, root, `name-${i}`, 'FIFO', {}, 0, 0))
  const made = await good(volume.fs.create(ROOT, root, 'file', { mode: 'GUARDED', attributes: {} }))
  await good(volume.fs.mkdir(ROOT, root, 'dir', {}))
  await good(volume.fs.write(ROOT, made.object.handle, 0, new Uint8Array(30 * BLOCK_BYTES), 'UNSTABLE'))
  await good(volume.fs.remove(ROOT, root, 'name-7'))
  const inodes = new Inodes(volume.store, volume.fs.freeze())
  const directory = inodes.get(ROOT_INO)
  // The store has not been frozen: its blocks may be changed here.
  const file = inodes.get(made.object.attributes.fileid)
  damage({ inodes, root: directory, tree: directory.tree(volume.store), file })
  return problemsOf(volume.store, inodes.root)
}

/** Offset of the first entry in use. */
function firstEntry(block: Uint8Array): number {
  let at = 0
  while (recordIno(block, at) === 0) at += recordGranules(block, at) * GRANULE_BYTES
  return at
}

const damages: [string, (image: Image) => void, RegExp][] = [
  ['nothing', () => {}, /^$/],
  ['a link count', ({ file }) => (file.nlink = 2), /1 links found, it counts 2/],
  ['a size', ({ file }) => (file.size = 5), /blocks behind its end/],
  ['a count of names', ({ root }) => (root.entries += 1), /names found, its inode counts/],
  ['a map byte', ({ tree }) => (tree.put(entryFbn(1))[0] = 200), /map says 200 granules/],
  [
    'a hash',
    ({ tree }) => putU32(tree.put(entryFbn(0)), firstEntry(tree.put(entryFbn(0))) + 8, 1),
    /wrong hash/,
  ],
  [
    'an entry',
    ({ tree }) => putU48(tree.put(entryFbn(0)), firstEntry(tree.put(entryFbn(0))), 9999),
    /not in use/,
  ],
  ['a record length', ({ tree }) => (tree.put(entryFbn(0))[6] = 0), /record of 0 granules/],
  ['an index slot', ({ tree }) => putU32(tree.put(bucketFbn(0)), 12, 77), /where no such name is/],
  ['a bucket', ({ tree }) => tree.put(bucketFbn(1)).fill(0), /not in the index/],
  ['a hole in a directory', ({ tree }) => void tree.punch(entryFbn(0)), /is a hole/],
  ['a parent', ({ inodes }) => (inodes.change(inodes.inoEnd - 1).parent = 3), /its parent is said to be 3/],
  ['a flag', ({ file }) => (file.flags = 1), /not on the list of shrinking/],
  ['the free list', ({ inodes }) => putU64(inodes.root, 32, 4), /list of free inodes/],
  ['a counter', ({ inodes }) => putU64(inodes.root, 48, 4), /inodes in use, the root counts 4/],
  ['a lost inode', ({ inodes, file }) => inodes.change(file.ino).clear(0), /free but not on the list/],
  ['a lost block', ({ inodes }) => void inodes.store.allocate('data'), /is lost/],
  ['the root', ({ inodes }) => putU32(inodes.root, 0, 1), /no volume root/],
]

describe('the checker', () => {
  test.each(damages)('tells of %s', async (_what, damage, expected) => {
    expect((await problemsAfter(damage)).join('\n')).toMatch(expected)
  })
})

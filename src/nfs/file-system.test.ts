/** The protocol over the real file system (core/fs), whose blocks and log are in memory. */
import { describe, expect, test } from '@jest/globals'
import { FilerVfs } from '../core/filer/filer-vfs.ts'
import { DUAL } from '../core/fs/block-store.ts'
import { ROOT, Volume } from '../core/fs/testing/harness.ts'
import type { Export } from '../core/vfs/vfs.ts'
import { conformance } from './testing/conformance.ts'
import { CALLS_PER_STREAM, sendDamagedCalls } from './testing/damaged-calls.ts'
import { Loopback } from './testing/loopback.ts'
import { Wire, record } from './testing/wire.ts'

async function served(): Promise<{ volume: Volume; vfs: FilerVfs; root: Uint8Array }> {
  const volume = Volume.make(DUAL)
  const root = await volume.root()
  const exported: Export = {
    path: '/home',
    volume: 'home',
    rules: [{ clients: ['0.0.0.0/0', '::/0'], access: 'ReadWrite', squash: 'None' }],
    root,
  }
  const entry = { files: volume.fs, export: exported }
  const vfs = new FilerVfs({
    byFsid: (fsid) => (fsid === 0xabcdef012345 ? entry : undefined),
    opening: () => false,
    served: () => [entry],
  })
  return { volume, vfs, root }
}

conformance('NFSv3 over TCP and core/fs', async () => {
  const { vfs } = await served()
  const loopback = await Loopback.start(vfs)
  return { client: loopback.client(), path: '/home', close: () => loopback.close() }
})

describe('over core/fs', () => {
  test(`R2: ${500 * CALLS_PER_STREAM} damaged calls`, async () => {
    const { vfs, root } = await served()
    const made = await vfs.create(ROOT, root, 'file', { mode: 'UNCHECKED', attributes: { size: 10_000 } })
    if (!made.ok) throw new Error('not made')
    await sendDamagedCalls(vfs, '/home', root, made.object.handle, 500, false)
  })

  test('a retransmitted REMOVE gets its first answer, not NOENT', async () => {
    const { vfs, root, volume } = await served()
    await vfs.create(ROOT, root, 'once', { mode: 'UNCHECKED', attributes: {} })
    const wire = new Wire(vfs)
    const remove = record({
      xid: 77,
      procedure: 12,
      write(w) {
        w.opaque(root)
        w.string('once')
      },
    })
    wire.feed(remove)
    await new Promise((resolve) => setImmediate(resolve))
    const first = wire.raw()
    const records = volume.journal.records.length
    wire.feed(remove)
    await new Promise((resolve) => setImmediate(resolve))
    expect(first.readUInt32BE(28)).toBe(0)
    expect(wire.raw()).toEqual(first)
    expect(volume.journal.records.length).toBe(records)
  })
})

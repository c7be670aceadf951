import { test } from '@jest/globals'
import { CALLS_PER_STREAM, sendDamagedCalls } from './testing/damaged-calls.ts'
import { MemoryVfs } from './testing/memory-vfs.ts'

const STREAMS = 4000

test(`R2: ${STREAMS * CALLS_PER_STREAM} damaged calls`, async () => {
  const vfs = new MemoryVfs()
  const file = await vfs.create({ uid: 0, gid: 0, gids: [] }, vfs.root, 'file', {
    mode: 'UNCHECKED',
    attributes: { size: 10_000 },
  })
  if (!file.ok) throw new Error('not made')
  await sendDamagedCalls(vfs, '/memory', vfs.root, file.object.handle, STREAMS, true)
})

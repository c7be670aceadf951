import { afterEach, beforeEach, expect, test } from '@jest/globals'
import type { NfsClient } from '../../nfs/client/nfs-client.ts'
import { Loopback } from '../../nfs/testing/loopback.ts'
import { MemoryVfs } from '../../nfs/testing/memory-vfs.ts'
import { Workload } from './workload.ts'

let server: Loopback
let client: NfsClient
let root: Uint8Array

beforeEach(async () => {
  const vfs = new MemoryVfs()
  server = await Loopback.start(vfs)
  client = server.client()
  root = await client.mount(vfs.exports()[0]!.path)
})
afterEach(() => server.close())

async function written(): Promise<Workload> {
  const workload = new Workload(client, 7)
  await workload.writeTree(root, 3, 5)
  workload.start()
  while (workload.counts.operations < 300) await new Promise((resolve) => setImmediate(resolve))
  await workload.pause()
  return workload
}

test('what was acknowledged is what is read back, again and again', async () => {
  const workload = await written()
  const first = await workload.verify(root)
  expect(first.differences).toEqual([])
  expect(first.files).toBeGreaterThan(10)
  workload.resume()
  const { operations } = workload.counts
  while (workload.counts.operations < operations + 100) await new Promise((resolve) => setImmediate(resolve))
  await workload.pause()
  const second = await workload.verify(root)
  expect(second.differences).toEqual([])
  expect(second.digest).not.toBe(first.digest)
  await workload.stop()
})

test('a changed byte, a lost file, a strange file and a cut-off file are told apart and found', async () => {
  const workload = await written()
  const { handle } = await client.lookup(root, 'writer-0')
  const entries = await client.list(handle)
  const sizes = await Promise.all(
    entries.map(async ({ name }) => ({ name, attributes: (await client.lookup(handle, name)).attributes })),
  )
  const [changed, cut] = sizes.filter(({ attributes }) => attributes.size > 100)
  const lost = sizes.find(({ name }) => name !== changed!.name && name !== cut!.name)
  const file = await client.lookup(handle, changed!.name)
  const { data } = await client.read(file.handle, 50, 1)
  await client.write(file.handle, 50, Buffer.from([data[0]! ^ 1]))
  await client.setattr((await client.lookup(handle, cut!.name)).handle, { size: 99 })
  await client.remove(handle, lost!.name)
  await client.create(root, 'strange')
  const { differences } = await workload.verify(root)
  expect(differences).toHaveLength(4)
  for (const name of [changed!.name, cut!.name, lost!.name, 'strange'])
    expect(differences.some((difference) => difference.includes(name))).toBe(true)
})

test('the pause that a client sees is measured', async () => {
  const workload = await written()
  workload.resume()
  workload.resetPause()
  client.rpc.breakConnection()
  const { operations } = workload.counts
  while (workload.counts.operations < operations + 10) await new Promise((resolve) => setImmediate(resolve))
  // The client connects anew no sooner than after its delay of 20 ms.
  expect(workload.longestPauseMs).toBeGreaterThanOrEqual(19)
  await workload.stop()
})

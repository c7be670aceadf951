import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { MemoryVfs } from '../testing/memory-vfs.ts'
import { Loopback } from '../testing/loopback.ts'
import { CELL_BYTES, cellOf, stampOf } from './content.ts'
import { Load } from './load.ts'

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('the load', () => {
  let vfs: MemoryVfs
  let server: Loopback
  let load: Load
  beforeEach(async () => {
    vfs = new MemoryVfs()
    server = await Loopback.start(vfs)
    const mount = { host: '127.0.0.1', port: server.port, path: vfs.exports()[0]!.path }
    load = await Load.open(
      [
        { mount, workers: 3 },
        { mount, workers: 1 },
      ],
      { seed: 7, filesPerWorker: 4 },
    )
  })
  afterEach(() => {
    load.close()
    server.close()
  })

  async function work(operations: number): Promise<void> {
    const from = load.operations
    while (load.operations < from + operations && load.failure === undefined) await turn()
  }
  async function paused(): Promise<void> {
    load.resume()
    await work(400)
    await load.pause()
  }
  /** A folder of some worker, through a client of its own. */
  async function folder(name = 'worker-0') {
    const client = server.client()
    const { handle } = await client.lookup(await client.mount(vfs.exports()[0]!.path), name)
    const entries = (await client.list(handle)).filter((entry) => /^(file|moved|link)-/.test(entry.name))
    const files = await Promise.all(
      entries.map(async ({ name }) => ({ name, ...(await client.lookup(handle, name)) })),
    )
    return { client, handle, files, filled: files.filter(({ attributes }) => attributes.size > CELL_BYTES) }
  }

  test('finds nothing wrong when nothing is, again and again, also over broken connections', async () => {
    await paused()
    const first = await load.verify()
    expect(first.differences).toEqual([])
    expect(first.files).toBeGreaterThan(10)
    load.resume()
    load.clients[0]!.rpc.breakConnection()
    load.clients[1]!.rpc.redirect('127.0.0.1', server.port)
    await work(400)
    await load.repeatAnswered()
    await work(100)
    await load.pause()
    const second = await load.verify()
    expect(second.differences).toEqual([])
    expect(second.digest).not.toBe(first.digest)
    expect(load.repeated).toBeGreaterThan(10)
    expect(load.tally).toEqual({ lost: 0, duplicated: 0, stale: 0, error: 0 })
  })

  test('a server that asks to come back later is asked again, and what it did not do counts as not done', async () => {
    let refusals = 0
    const later = <A extends unknown[], R>(call: (...args: A) => R) =>
      ((...args: A) => (refusals++ % 7 === 0 ? { status: 'JUKEBOX', wcc: {} } : call(...args))) as (
        ...args: A
      ) => R
    vfs.write = later(vfs.write.bind(vfs))
    vfs.create = later(vfs.create.bind(vfs))
    await paused()
    await load.repeatAnswered()
    const { differences } = await load.verify()
    expect(differences).toEqual([])
    expect(refusals).toBeGreaterThan(50)
    expect(load.tally).toEqual({ lost: 0, duplicated: 0, stale: 0, error: 0 })
  })

  test('a changed byte, a lost file, a strange one and one that was cut off are told apart', async () => {
    await paused()
    const { client, handle, files, filled } = await folder()
    const [changed, cut] = filled.filter(({ attributes }) => attributes.nlink === 1)
    const lost = files.find((file) => file !== changed && file !== cut)
    const { data } = await client.read(changed!.handle, 50, 1)
    await client.write(changed!.handle, 50, Buffer.from([data[0]! ^ 1]))
    await client.setattr(cut!.handle, { size: 99 })
    await client.remove(handle, lost!.name)
    await client.create(handle, 'strange')
    const { differences } = await load.verify()
    expect(differences).toContainEqual(expect.stringMatching(`${changed!.name}: cell 0 .*never written`))
    expect(differences).toContainEqual(expect.stringMatching(`${cut!.name}: size 99, must be`))
    expect(differences).toContainEqual(expect.stringMatching(`${lost!.name} was acknowledged, and is not`))
    expect(differences).toContainEqual(expect.stringMatching('strange is there, though'))
    expect(load.tally.duplicated).toBe(1)
    expect(load.tally.lost).toBeGreaterThanOrEqual(3)
  })

  test('a read of what was overwritten, and a counter that went back, are stale', async () => {
    await paused()
    const { client } = await folder()
    const root = await client.mount(vfs.exports()[0]!.path)
    const before = new Map<string, Uint8Array>()
    for (const name of ['worker-0', 'worker-1', 'worker-2', 'worker-3']) {
      const { handle } = await client.lookup((await client.lookup(root, name)).handle, 'counter')
      before.set(name, Buffer.from((await client.read(handle, 0, CELL_BYTES)).data))
    }
    load.resume()
    await work(400)
    await load.pause()
    for (const [name, data] of before) {
      const { handle } = await client.lookup((await client.lookup(root, name)).handle, 'counter')
      await client.write(handle, 0, data)
    }
    load.resume()
    await work(4000)
    await load.pause()
    expect(load.tally.stale).toBeGreaterThan(0)
    expect(load.failure?.message).toMatch(/was acknowledged or shown before/)
  })

  test('a STALE answer is counted, and a call that took effect twice', async () => {
    await paused()
    const { client, handle, files } = await folder()
    for (const { name } of files) await client.remove(handle, name)
    load.resume()
    await work(4000)
    await load.pause()
    expect(load.tally.stale + load.tally.duplicated + load.tally.lost).toBeGreaterThan(0)
    expect(load.failure?.message).toMatch(/worker-0: [A-Z]+: (STALE|NOENT), to a call that must succeed/)
  })

  test('another answer to a repeated call counts as a duplicate', async () => {
    await paused()
    vfs.duplicate = () => undefined
    await load.repeatAnswered()
    expect(load.tally.duplicated).toBeGreaterThan(0)
  })

  test('the pause that a client sees is measured', async () => {
    load.resume()
    await work(50)
    load.resetPause()
    const { rpc } = load.clients[0]!
    rpc.breakConnection()
    while (rpc.reconnects === 0) await turn()
    const { answers } = rpc
    while (rpc.answers === answers) await turn()
    // The client connects anew no sooner than after its delay of 20 ms.
    expect(load.longestPauseMs).toBeGreaterThanOrEqual(19)
    await load.pause()
  })
})

test('a cell tells its file, its place and its version', () => {
  const cell = cellOf(3, 5, 17)
  expect(stampOf(3, 5, cell)).toBe(17)
  expect(stampOf(3, 6, cell)).toBeUndefined()
  expect(stampOf(4, 5, cell)).toBeUndefined()
  expect(stampOf(3, 5, cell.subarray(1))).toBeUndefined()
  expect(stampOf(3, 5, Buffer.alloc(CELL_BYTES))).toBe(0)
  cell[100]! ^= 1
  expect(stampOf(3, 5, cell)).toBeUndefined()
})

import { afterEach, describe, expect, test } from '@jest/globals'
import { Load } from '../e2e/lib/load.ts'
import { Loopback } from '../src/nfs/testing/loopback.ts'
import { MemoryVfs } from '../src/nfs/testing/memory-vfs.ts'

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('the load of the crash rounds', () => {
  let loopback: Loopback
  let load: Load
  afterEach(() => {
    load.close()
    loopback.close()
  })

  async function paused(): Promise<Load> {
    loopback = await Loopback.start(new MemoryVfs())
    load = await Load.start({ host: '127.0.0.1', port: loopback.port, path: '/memory' }, 2, 5)
    while (load.operations < 200) await turn()
    await load.pause()
    return load
  }

  test('finds nothing wrong when nothing is, also over a broken connection', async () => {
    await paused()
    expect(await load.verify()).toEqual([])
    load.resume()
    load.client.rpc.breakConnection()
    const before = load.operations
    while (load.operations < before + 100) await turn()
    await load.pause()
    expect(await load.verify()).toEqual([])
  })

  test('a lost write, a lost file and one that came back are each noticed', async () => {
    await paused()
    const client = loopback.client()
    const root = await client.mount('/memory')
    const folder = (await client.lookup(root, 'worker-0')).handle
    const files = await client.list(folder)
    let damaged = false
    for (const entry of files) {
      const { handle, attributes } = await client.lookup(folder, entry.name)
      if (attributes.size === 0 || damaged) continue
      await client.write(handle, attributes.size - 4096, Buffer.alloc(4096, 7))
      damaged = true
    }
    expect(damaged).toBe(true)
    expect(await load.verify()).toEqual([expect.stringMatching(/block \d+ is not version \d+/)])
    await client.create(folder, 'ghost')
    await client.remove(folder, files.at(-1)!.name)
    const wrong = await load.verify()
    expect(wrong).toContainEqual(expect.stringContaining('ghost: is there'))
    expect(wrong).toContainEqual(expect.stringContaining('acknowledged, and is not there'))
  })
})

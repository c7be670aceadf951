import { afterEach, describe, expect, test } from '@jest/globals'
import { Loopback } from '../testing/loopback.ts'
import { MemoryVfs } from '../testing/memory-vfs.ts'
import type { LedgerJson } from './ledger.ts'
import { LEDGER_BLOCK_BYTES, Ledger, fillPattern } from './ledger.ts'
import { Workload, verify } from './workload.ts'

const pattern = (file: number, block: number, version: number): Buffer => {
  const data = Buffer.alloc(LEDGER_BLOCK_BYTES)
  fillPattern(data, 7, file, block, version)
  return data
}

describe('the ledger tells kept promises from broken ones', () => {
  const ledger = new Ledger(7)
  const file = ledger.beginCreate('f')
  ledger.acknowledgeCreate(file, 'f')
  const first = ledger.beginWrite(file, 3, 2)
  ledger.acknowledgeWrite(file, 3, 2, first.version)
  const second = ledger.beginWrite(file, 3, 1)
  ledger.acknowledgeWrite(file, 3, 1, second.version)
  const begun = ledger.beginWrite(file, 3, 1)
  const other = ledger.beginCreate('g')

  test('kept: the acknowledged version, or one begun after it; nothing where nothing was written', () => {
    expect(ledger.problemOf(file, 3, second.data)).toBeUndefined()
    expect(ledger.problemOf(file, 3, begun.data)).toBeUndefined()
    expect(ledger.problemOf(file, 4, first.data.subarray(LEDGER_BLOCK_BYTES))).toBeUndefined()
    expect(ledger.problemOf(file, 0, Buffer.alloc(LEDGER_BLOCK_BYTES))).toBeUndefined()
  })

  test('broken: lost, older, torn, misplaced, invented', () => {
    expect(ledger.problemOf(file, 3, Buffer.alloc(LEDGER_BLOCK_BYTES))).toContain('lost')
    expect(ledger.problemOf(file, 3, Buffer.alloc(0))).toContain('lost')
    expect(ledger.problemOf(file, 3, pattern(file, 3, first.version))).toContain('older')
    expect(
      ledger.problemOf(
        file,
        3,
        Buffer.concat([second.data.subarray(0, 2048), first.data.subarray(2048, 4096)]),
      ),
    ).toContain('torn')
    expect(ledger.problemOf(file, 3, pattern(file, 4, first.version))).toContain('misplaced')
    expect(ledger.problemOf(file, 3, pattern(other, 3, second.version))).toContain('misplaced')
    expect(ledger.problemOf(file, 3, pattern(file, 3, 99))).toContain('never begun')
    expect(ledger.problemOf(file, 9, pattern(file, 9, 1))).toContain('never written')
    expect(ledger.problemOf(file, 3, Buffer.alloc(LEDGER_BLOCK_BYTES, 1))).toContain('not ours')
  })

  test('is the same after a journey as JSON', () => {
    const copy = Ledger.fromJSON(JSON.parse(JSON.stringify(ledger)) as LedgerJson)
    expect(copy.toJSON()).toEqual(ledger.toJSON())
    expect(copy.problemOf(file, 3, begun.data)).toBeUndefined()
    expect(copy.problemOf(file, 3, first.data.subarray(0, LEDGER_BLOCK_BYTES))).toContain('older')
  })
})

describe('a workload', () => {
  let loopback: Loopback
  afterEach(() => loopback.close())

  test('over broken connections loses nothing, and notices what somebody else did', async () => {
    loopback = await Loopback.start(new MemoryVfs({ delayed: true }))
    const client = loopback.client()
    const root = await client.mount('/memory')
    const ledger = new Ledger(42)
    const workload = new Workload({
      client,
      directory: root,
      ledger,
      workers: 8,
      blocksPerFile: 16,
      removals: 0.02,
    })
    const run = workload.run()
    for (const at of [100, 300, 600]) {
      while (workload.acknowledged < at) await new Promise((resolve) => setImmediate(resolve))
      client.rpc.breakConnection()
    }
    while (workload.acknowledged < 900) await new Promise((resolve) => setImmediate(resolve))
    workload.stop()
    await run
    expect(client.rpc.reconnects).toBe(3)
    expect(workload.counts.renames).toBeGreaterThan(0)
    expect(workload.counts.removes).toBeGreaterThan(0)
    expect(await verify(client, root, ledger)).toEqual([])

    const victim = ledger.files.find((file) => file.name !== undefined && file.blocks.size > 0)!
    const [block] = victim.blocks.keys()
    const { handle } = await client.lookup(root, victim.name!)
    await client.write(handle, block! * LEDGER_BLOCK_BYTES, Buffer.alloc(LEDGER_BLOCK_BYTES))
    await client.create(root, 'stranger')
    const problems = await verify(client, root, ledger)
    expect(problems).toHaveLength(2)
    expect(problems[0]).toContain('is lost')
    expect(problems[1]).toContain('"stranger" should not be there')
    await client.remove(root, victim.name!)
    expect(await verify(client, root, ledger)).toContain(`file ${victim.id} ("${victim.name}") is lost`)
  })
})

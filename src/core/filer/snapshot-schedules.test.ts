import { describe, expect, test } from '@jest/globals'
import type { Env } from '../env/env.ts'
import { nodeEnv } from '../../edge/node/env.ts'
import type { Snapshot } from '../block/volume-snapshots.ts'
import type { SnapshotAnswer } from './snapshot-orders.ts'
import type { KeptSchedule } from './volume-operation.ts'
import { nameAt, scheduleProblem, schedulesOf, SnapshotSchedules } from './snapshot-schedules.ts'

const at = (text: string): number => Date.parse(`${text}Z`) / 1000
const DONE: SnapshotAnswer = { accepted: true, reason: '', message: '' }

/** A volume whose orders are carried out at once, and a clock that the test turns. */
class Bench {
  now = at('2026-11-25T10:00:30')
  names: string[] = []
  readonly orders: string[] = []
  refuse = ''
  schedules: readonly KeptSchedule[]
  keeper: SnapshotSchedules
  readonly env: Env

  constructor(...schedules: KeptSchedule[]) {
    this.schedules = schedules
    const wall = () => ({ seconds: this.now, nanoseconds: 0 })
    this.env = { ...nodeEnv(), clock: { ...nodeEnv().clock, wall, now: () => this.now * 1000 } }
    this.keeper = new SnapshotSchedules(this.env)
  }

  /** Seconds go by, with a tick in each. */
  async pass(seconds: number, step = 1): Promise<void> {
    for (let i = 0; i < seconds; i += step) {
      this.now += step
      await this.tick()
    }
  }

  async tick(): Promise<void> {
    const snapshots = {
      list: () => this.names.map((name, i) => ({ id: i + 1, name }) as unknown as Snapshot),
    }
    const order = (op: 'Create' | 'Delete', name: string): Promise<SnapshotAnswer> => {
      this.orders.push(`${op} ${name}`)
      if (this.refuse !== '') return Promise.resolve({ accepted: false, reason: this.refuse, message: '' })
      if (op === 'Create') this.names.push(name)
      else this.names = this.names.filter((one) => one !== name)
      return Promise.resolve(DONE)
    }
    this.keeper.tick([{ id: 'v', schedules: this.schedules, snapshots, order }])
    for (let i = 0; i < 5; i++) await Promise.resolve()
  }
}

const SINCE = at('2026-11-25T09:30:00')

describe('schedules of snapshots', () => {
  test('make one at each time, and keep so many', async () => {
    const bench = new Bench(['quarter', '*/15 * * * *', 2, SINCE])
    bench.now = at('2026-11-25T09:31:00')
    await bench.pass(3600)
    expect(bench.orders).toEqual([
      'Create quarter.2026-11-25T0945Z',
      'Create quarter.2026-11-25T1000Z',
      'Create quarter.2026-11-25T1015Z',
      'Delete quarter.2026-11-25T0945Z',
      'Create quarter.2026-11-25T1030Z',
      'Delete quarter.2026-11-25T1000Z',
    ])
  })

  test('make up for the latest that was missed, once, also after a restart; nothing from before they were in force', async () => {
    const bench = new Bench(['hourly', '0 * * * *', 9, SINCE])
    bench.now = at('2026-11-26T07:12:00')
    await bench.pass(10)
    expect(bench.orders).toEqual(['Create hourly.2026-11-26T0700Z'])
    bench.keeper = new SnapshotSchedules(bench.env)
    await bench.pass(10)
    expect(bench.orders).toHaveLength(1)
    const young = new Bench(['hourly', '0 * * * *', 9, at('2026-11-25T10:00:10')])
    await young.pass(10)
    expect(young.orders).toEqual([])
  })

  test('do not touch other snapshots, and are told apart by their whole names', async () => {
    const bench = new Bench(['a', '0 0 1 1 *', 1, SINCE])
    bench.names = [
      'a.2026-11-25T0900Z',
      'a.b',
      'a.2026-11-25',
      'ab.2026-11-25T0900Z',
      'manual.1',
      'a.2026-11-25T0945Z',
    ]
    await bench.pass(5)
    expect(bench.orders).toEqual(['Delete a.2026-11-25T0900Z'])
  })

  test('what is refused is tried again a minute later', async () => {
    const bench = new Bench(['hourly', '0 * * * *', 9, SINCE])
    bench.refuse = 'NoSpace'
    await bench.pass(50)
    expect(bench.orders).toHaveLength(1)
    await bench.pass(50)
    expect(bench.orders).toHaveLength(2)
    bench.refuse = ''
    await bench.pass(60)
    expect(bench.names).toEqual(['hourly.2026-11-25T1000Z'])
    await bench.pass(60)
    expect(bench.orders).toHaveLength(3)
  })

  test('a clock that was ahead and is put right does not stop them', async () => {
    const bench = new Bench(['hourly', '0 * * * *', 9, SINCE])
    bench.now = at('2031-01-01T00:00:30')
    await bench.pass(5)
    bench.now = at('2026-11-25T11:00:30')
    await bench.pass(5)
    await bench.pass(3600, 10)
    expect(bench.names).toEqual(['hourly.2031-01-01T0000Z', 'hourly.2026-11-25T1200Z'])
  })

  test('a schedule that stays as it is stays in force since when it was', () => {
    const known: KeptSchedule[] = [
      ['a', '0 * * * *', 5, 100],
      ['b', '0 0 * * *', 5, 100],
    ]
    const wanted = [
      { name: 'a', cron: '0 * * * *', keep: 7 },
      { name: 'b', cron: '1 0 * * *', keep: 5 },
    ]
    expect(schedulesOf(wanted, known, 200)).toEqual([
      ['a', '0 * * * *', 7, 100],
      ['b', '1 0 * * *', 5, 200],
    ])
    expect(schedulesOf([], known, 200)).toBeUndefined()
    expect(scheduleProblem(wanted)).toBeUndefined()
    expect(scheduleProblem([{ name: 'x', cron: '61 * * * *', keep: 1 }])).toMatch(/schedule x/)
    expect(nameAt('a', at('2026-01-02T03:04:59'))).toBe('a.2026-01-02T0304Z')
  })
})

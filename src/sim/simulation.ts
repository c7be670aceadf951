/**
 * One run: a pair and its clients under one scenario and one seed, then peace, and everything that must hold after it.
 * The same seed and scenario give the same run, event by event.
 */
import { Caller, SideAnswers, Violation } from './caller.ts'
import { Client } from './client.ts'
import type { BrokenBuild } from '../core/pair/options.ts'
import { SnapshotClient } from './snapshot-client.ts'
import { FilerPair } from './filer-pair.ts'
import { FILERS } from './names.ts'
import { failureOf } from './run-result.ts'
import type { RunResult } from './run-result.ts'
import { simulateMirrors } from './mirrors.ts'
import { describePair } from './describe.ts'
import { checkMemory, mend, problemsOf, untilEqual } from './pair-check.ts'
import type { ClientOrders, Scenario } from './scenario.ts'
import { Player, SETTLE_MS } from './scenario.ts'

const FIRST_SETTLE_MS = 20_000

export interface RunOptions {
  readonly broken?: BrokenBuild
  /** Of the scenario's stretch `at-every`: the power fails at this one. */
  readonly moment?: number
}

export async function simulate(
  scenario: Scenario,
  seed: number,
  { broken, moment }: RunOptions = {},
): Promise<RunResult> {
  if (scenario.options.has('pairs')) return simulateMirrors(scenario, seed, broken)
  const option = (name: string, otherwise: number): number => {
    const value = Number(scenario.options.get(name) ?? otherwise)
    if (Number.isNaN(value)) throw new Error(`scenario ${scenario.name}: option ${name} is no number`)
    return value
  }
  const blocks = option('device-blocks', 6000)
  const traditional = option('traditional-blocks', 0)
  const pair = new FilerPair({
    seed,
    deviceBlocks: [blocks, Math.ceil(blocks * 0.7)],
    ...(traditional === 0 ? {} : { traditionalBlocks: [traditional, Math.ceil(traditional * 0.5)] }),
    ...(scenario.options.has('empty-blocks') ? { emptyBlocks: option('empty-blocks', 0) } : {}),
    volumeBytes: option('volume-mib', 32) * 2 ** 20,
    snapshots: option('snapshots', 0) === 1,
    logBlocks: 1 + 2 * option('log-half-blocks', 128),
    cacheBytes: option('cache-mib', 8) * 2 ** 20,
    givebackDelayMs: option('giveback-ms', 2000),
    ...(scenario.options.has('scrub-ms') ? { scrubMs: option('scrub-ms', 0) } : {}),
    memoryLogs: option('memory-logs', 0) === 1,
    confirmedReads: option('confirmed-reads', 0) === 1,
    ...(broken === undefined ? {} : { broken }),
  })
  const snapshotClients: SnapshotClient[] = []
  const clients = FILERS.flatMap((side) => {
    const answers = new SideAnswers()
    const peers: Client[] = []
    for (const name of pair.snapshotVolumes(side)) {
      const caller = new Caller(pair, side, `${name}-client`, answers)
      const client = new SnapshotClient(caller, `/${name}`, `volume-${name}`)
      client.pauseMs = option('pause-ms', 1)
      snapshotClients.push(client)
    }
    for (let n = 0; n < option('clients', 6); n++) {
      const paths = pair.exports(side)
      const path = paths[n % paths.length]!
      const client = new Client(new Caller(pair, side, `${side}${n}`, answers), path, peers)
      client.pauseMs = option('pause-ms', 1)
      peers.push(client)
    }
    return peers
  })
  const all = [...clients, ...snapshotClients]
  for (const { caller } of all) caller.lostAnswers = option('lost-answers', 0)
  let failure: RunResult['failure']
  try {
    await run(pair, all, scenario, moment)
  } catch (error) {
    failure = failureOf(error, describePair(pair))
  }
  const sum = (of: (client: Client | SnapshotClient) => number): number =>
    all.reduce((total, client) => total + of(client), 0)
  return {
    operations: sum((client) => client.caller.operations),
    repeated: sum((client) => client.caller.repeated),
    refused: sum((client) => client.refused),
    crashes: pair.crashes,
    damage: pair.damage.made,
    takeovers: pair.vote.history.length,
    virtualMs: pair.world.now,
    struck: pair.power.struck,
    traceHash: pair.world.traceHash,
    failure,
  }
}

async function run(
  pair: FilerPair,
  clients: readonly (Client | SnapshotClient)[],
  scenario: Scenario,
  moment: number | undefined,
): Promise<void> {
  const { world } = pair
  for (const name of FILERS) pair.start(name)
  await pair.untilGood(FIRST_SETTLE_MS)
  for (const client of clients) client.run()
  const orders: ClientOrders = {
    stop: () => {
      for (const client of clients) client.stop()
      return world.until(() => clients.every((client) => client.idle), SETTLE_MS, 'clients answered (H10)')
    },
    read: async () => {
      for (const client of clients) await world.wait(client.verify(), SETTLE_MS, 'reads of everything')
    },
    go: () => {
      for (const client of clients) client.run()
      return Promise.resolve()
    },
  }
  await new Player(pair, { moment, clients: orders }).play(scenario.steps)
  pair.peace()
  await pair.untilGood(SETTLE_MS)
  await world.run(200)
  checkMemory(pair)
  await orders.stop()
  await orders.read()
  await pair.untilGrown(SETTLE_MS)
  if (pair.damage.victim !== undefined) await mend(pair, SETTLE_MS)
  await untilEqual(pair, SETTLE_MS)
  const problems = await problemsOf(pair)
  if (problems.length > 0) throw new Violation(`at rest: ${problems.slice(0, 10).join('; ')}`)
}

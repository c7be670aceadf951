/**
 * Pairs in a ring, each under load and mirroring its volume to the next, with consistency points at intervals of their own: real processes of the embedded mode.
 */
import { connectAdmin } from '../../src/operator/admin-grpc.ts'
import type { AdminClient } from '../../src/operator/admin-client.ts'
import { FILER_VOLUMES, MIRRORS, PODS, SECRETS } from '../../src/edge/kube/resources.ts'
import { ADMIN_PORT, METRICS_PORT } from '../../src/edge/filer/filer-process.ts'
import { filerUri, issue, operatorUri } from '../../src/edge/pki.ts'
import { Load } from '../../src/nfs/load/load.ts'
import { Embedded } from '../lib/embedded.ts'
import { sleep, until } from '../lib/process.ts'
import { Answers } from './answers.ts'

export const filers = ['a', 'b'] as const
const WORKERS = 4
/** A filer flushes by itself after so long. */
const FLUSH_MAX_MS = 10_000
const SYNC_WITHIN_MS = 120_000
const SAMPLE_MS = 250

export interface RingOptions {
  readonly pairs: number
  readonly seed: number
  /** The first pair flushes so many times as often as the last. */
  readonly ratio: number
}

/** What is seen of one pair: its mirror's source and the log files that it keeps for the pair before it. */
export interface Seen {
  logFilesMax: number
  logFilesLimit: number
  lagSecondsMax: number
  /** Samples in which its mirror was not in sync. */
  outOfSync: number
  samples: number
  flushes: number
  sentBytes: number
  /** The newest sample has it in sync. */
  inSync: boolean
  /** Times that one of its filers took a side, or gave up an interconnect to anyone: nothing here breaks any, but a machine that lets filers stand still does. */
  disturbances: number
}

export class RingPair {
  readonly name: string
  readonly volume: string
  /** Of the pair before it. */
  readonly copy: string
  readonly mirror: string
  readonly flushMs: number
  readonly answers = new Answers()
  readonly seen: Seen = {
    logFilesMax: 0,
    logFilesLimit: 0,
    lagSecondsMax: 0,
    outOfSync: 0,
    samples: 0,
    flushes: 0,
    sentBytes: 0,
    inSync: false,
    disturbances: 0,
  }
  load!: Load
  /** Acknowledged when its newest consistency point was first seen. */
  acknowledgedThen = 0
  flushesSeen = -1
  firstFlushes = 0
  readonly disturbed = new Map<string, number>()

  constructor(n: number, { pairs, ratio }: RingOptions) {
    this.name = `p${n + 1}`
    this.volume = `v${n + 1}`
    this.copy = `c${((n + pairs - 1) % pairs) + 1}`
    this.mirror = `m${n + 1}`
    this.flushMs = Math.round((FLUSH_MAX_MS / ratio) * ratio ** (pairs === 1 ? 0 : n / (pairs - 1)))
  }

  /** With a small volume whose snapshots make consistency points. */
  manifests(): string {
    const volume = (name: string, size: string): string => `
---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: ${name} }
spec:
  pairName: ${this.name}
  aggregate: aggr1
  size: ${size}
  export: { rules: [{ clients: [0.0.0.0/0], access: ReadWrite, squash: None }] }`
    return `
apiVersion: tandem.storage/v1alpha1
kind: FilerPair
metadata: { name: ${this.name} }
spec:
  aggregates:
    - { name: aggr1, filer: a, deviceSets: [{ name: d, count: 2, size: 512Mi }] }
  log: { size: 64Mi }
  cacheSize: 64Mi
  placement: { spread: Preferred }
  takeover: { giveback: Manual }${volume(this.volume, '128Mi')}${volume(this.copy, '128Mi')}${volume(`tick-${this.name}`, '32Mi')}
`
  }
}

export class Ring {
  readonly pairs: readonly RingPair[]
  readonly embedded: Embedded
  readonly #options: RingOptions
  readonly #addresses = new Map<string, string>()
  #stopped = false
  #measuring = false
  readonly #tasks: Promise<void>[] = []
  readonly lost = new Set<string>()

  private constructor(embedded: Embedded, pairs: readonly RingPair[], options: RingOptions) {
    this.embedded = embedded
    this.pairs = pairs
    this.#options = options
  }

  static async start(options: RingOptions): Promise<Ring> {
    const pairs = Array.from({ length: options.pairs }, (_, n) => new RingPair(n, options))
    const objects = pairs.flatMap(({ name, volume, copy }) => [`fp/${name}`, `fv/${volume}`, `fv/${copy}`])
    const manifests = pairs.map((pair) => pair.manifests()).join('---')
    const embedded = await Embedded.start('ring', manifests, { objects })
    const ring = new Ring(embedded, pairs, options)
    try {
      await ring.#open()
      return ring
    } catch (error) {
      await ring.end(true)
      throw error
    }
  }

  async #open(): Promise<void> {
    const { seed } = this.#options
    for (const pair of this.pairs) {
      await this.embedded.redundant(120_000, pair.name)
      for (const filer of filers) {
        const pod = await this.embedded.api.get(PODS, 'default', `${pair.name}-${filer}-0`)
        this.#addresses.set(`${pair.name}/${filer}`, (pod['status'] as { podIP: string }).podIP)
      }
    }
    for (const [n, pair] of this.pairs.entries()) {
      const mount = await this.embedded.mountPoint(pair.volume)
      const { answers } = pair
      const onAnswer = (_: number, nowMs: number): void => answers.heard(nowMs)
      pair.load = await Load.open([{ mount, workers: WORKERS, onAnswer }], {
        seed: seed + 1000 * n,
        filesPerWorker: 4,
      })
      pair.load.resume()
    }
    for (const [n, pair] of this.pairs.entries()) {
      const next = this.pairs[(n + 1) % this.pairs.length]!
      await this.embedded.api.create(MIRRORS, {
        apiVersion: 'tandem.storage/v1alpha1',
        kind: 'Mirror',
        metadata: { name: pair.mirror, namespace: 'default' },
        spec: { source: { volumeName: pair.volume }, destination: { volumeName: next.copy } },
      })
    }
    await this.inSync()
    for (const pair of this.pairs) this.#tasks.push(this.#flush(pair), this.#watch(pair))
    // Filers measure themselves once a second: what they tell may be older than the condition.
    await until('metrics tell of sync', SYNC_WITHIN_MS, () => this.pairs.every(({ seen }) => seen.inSync))
  }

  async inSync(): Promise<void> {
    for (const { mirror } of this.pairs)
      await this.embedded.condition('InSync', `mir/${mirror}`, SYNC_WITHIN_MS)
  }

  /** From now on what is seen counts. */
  measure(): void {
    for (const pair of this.pairs) {
      pair.answers.reset()
      pair.firstFlushes = pair.flushesSeen
    }
    this.#measuring = true
  }
  measured(): void {
    this.#measuring = false
    for (const { answers } of this.pairs) answers.end(performance.now())
  }

  assertWell(): void {
    for (const { load } of this.pairs) load.assertWell()
  }

  /** Consistency points of a pair, one by one at its interval. */
  async #flush(pair: RingPair): Promise<void> {
    const { api } = this.embedded
    const ca = await api.get(SECRETS, 'default', `${pair.name}-ca`)
    const text = (key: string): string =>
      Buffer.from((ca['data'] as Record<string, string>)[key] ?? '', 'base64').toString()
    const authority = { certificate: text('tls.crt'), key: text('tls.key') }
    const own = await issue(authority, operatorUri('default'), Date.now())
    const volume = await api.get(FILER_VOLUMES, 'default', `tick-${pair.name}`)
    const { id: volumeId } = volume['status'] as { id: string }
    const clients = filers.map((filer): AdminClient =>
      connectAdmin({
        address: `${this.#addresses.get(`${pair.name}/${filer}`)}:${ADMIN_PORT}`,
        uri: filerUri('default', pair.name, filer),
        tls: { ca: text('ca.crt'), cert: own.certificate, key: own.key },
      }),
    )
    let next = performance.now()
    for (let n = 0; !this.#stopped && !this.lost.has(pair.name); n++) {
      const op = n % 2 === 0 ? 'Create' : 'Delete'
      for (const client of clients) {
        const answer = await client
          .snapshot({ volumeId, op, snapshot: 'tick', requestId: `tick-${n}` })
          .catch(() => undefined)
        if (answer?.accepted === true) break
      }
      next = Math.max(next + pair.flushMs, performance.now())
      while (performance.now() < next && !this.#stopped) await sleep(50)
    }
    for (const client of clients) client.close()
  }

  async #watch(pair: RingPair): Promise<void> {
    while (!this.#stopped && !this.lost.has(pair.name)) {
      for (const filer of filers) await this.#sample(pair, filer).catch(() => undefined)
      await sleep(SAMPLE_MS)
    }
  }

  async #sample(pair: RingPair, filer: string): Promise<void> {
    const { load, seen } = pair
    const before = load.operations
    const response = await fetch(
      `http://${this.#addresses.get(`${pair.name}/${filer}`)}:${METRICS_PORT}/metrics`,
    )
    const metrics = (await response.text()).split('\n')
    const value = (start: string, ...labels: string[]): number | undefined => {
      const line = metrics.find(
        (text) => text.startsWith(start) && labels.every((label) => text.includes(label)),
      )
      return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1))
    }
    const sum = (name: string): number =>
      metrics
        .filter((text) => text.startsWith(`${name}{`))
        .reduce((all, text) => all + Number(text.slice(text.lastIndexOf(' ') + 1)), 0)
    const disturbed = sum('tandem_takeovers_total') + sum('tandem_interconnect_failures_total')
    if (this.#measuring)
      seen.disturbances += Math.max(0, disturbed - (pair.disturbed.get(filer) ?? disturbed))
    pair.disturbed.set(filer, disturbed)
    // The filer that serves the side is asked of.
    if (value('tandem_side_serving{', 'side="a"') !== 1) return
    const flushes = value('tandem_cp_total') ?? 0
    if (flushes !== pair.flushesSeen) {
      pair.flushesSeen = flushes
      pair.acknowledgedThen = before
    }
    const source = ['role="Source"', `volume="${pair.volume}"`]
    seen.inSync = value('tandem_mirror_state{', ...source, 'state="InSync"') === 1
    if (!this.#measuring) return
    const destination = ['role="Destination"', `volume="${pair.copy}"`]
    seen.samples++
    if (!seen.inSync) seen.outOfSync++
    seen.flushes = flushes - pair.firstFlushes
    seen.lagSecondsMax = Math.max(seen.lagSecondsMax, value('tandem_mirror_lag_seconds{', ...source) ?? 0)
    seen.logFilesMax = Math.max(seen.logFilesMax, value('tandem_mirror_log_files{', ...destination) ?? 0)
    seen.logFilesLimit = value('tandem_mirror_log_files_max{', ...source) ?? 0
    seen.sentBytes = value('tandem_mirror_sent_bytes_total{', ...source) ?? 0
  }

  /** Both filers of a pair at this instant, and they stay away. */
  async kill(pair: RingPair): Promise<void> {
    this.lost.add(pair.name)
    for (const filer of filers) await this.#tandem('hold', `${pair.name}/${filer}`)
    const { pods } = await this.embedded.upStatus()
    const pids = pods.filter(({ key }) => key.startsWith(`default/${pair.name}-`)).map(({ pid }) => pid)
    for (const pid of pids) if (pid !== undefined) process.kill(pid, 'SIGKILL')
  }

  async release(pair: RingPair): Promise<void> {
    for (const filer of filers) await this.#tandem('release', `${pair.name}/${filer}`)
    await this.embedded.condition('Ready', `fp/${pair.name}`, 60_000)
  }

  async #tandem(...words: string[]): Promise<void> {
    const { status, stderr } = await this.embedded.tandem(words[0]!, ...words.slice(1))
    if (status !== 0) throw new Error(`tandem ${words.join(' ')}: ${stderr}`)
  }

  /** Breaks a mirror and points its clients at the destination; how long until they were answered. */
  async break(pair: RingPair): Promise<number> {
    const next = this.pairs[(this.pairs.indexOf(pair) + 1) % this.pairs.length]!
    const { host, port } = await this.embedded.mountPoint(next.volume)
    const { rpc } = pair.load.clients[0]!
    const began = performance.now()
    rpc.redirect(host, port)
    const wanted = rpc.answers + 1
    await this.embedded.api.mergePatch(MIRRORS, 'default', pair.mirror, { spec: { state: 'Broken' } })
    await until(
      'the destination answers',
      60_000,
      () => rpc.answers > wanted || pair.load.failure !== undefined,
      5,
    )
    return performance.now() - began
  }

  async end(keepState: boolean): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#tasks)
    for (const pair of this.pairs) (pair.load as Load | undefined)?.close()
    await this.embedded.stop(keepState)
  }
}

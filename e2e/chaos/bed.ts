/**
 * A pair under load, for faults: real processes, two relayed interconnects, a client at the volume's Service (its pauses are what is measured), and
 * one at each filer's own address, by whose answers two acknowledging owners would be seen. All of them work on one volume.
 */
import { join } from 'node:path'
import { Informer } from '../../src/edge/kube/informer.ts'
import { LEASES, PODS } from '../../src/edge/kube/resources.ts'
import { VOTE_ANNOTATION, parseVote } from '../../src/edge/filer/lease-vote.ts'
import { NFS_PORT } from '../../src/edge/filer/filer-process.ts'
import type { KubeObject } from '../../src/edge/kube/api.ts'
import { Load } from '../../src/nfs/load/load.ts'
import type { MountPoint } from '../../src/nfs/load/load.ts'
import { Embedded } from '../lib/embedded.ts'
import { until } from '../lib/process.ts'
import { Disk } from './disk.ts'
import { movesNeeded } from './owners.ts'
import type { Answer } from './owners.ts'
import { onePair } from '../lib/one-pair.ts'

export const links = ['default', 'ic1']
export const filers = ['a', 'b']
const SERVICE_WORKERS = 6
/** Longer than any takeover; what takes longer is a failure, whatever the machine. */
const SERVED_WITHIN_MS = 60_000
/** A resync that fails is tried again after a pause that doubles; on a busy machine several fail. */
const WHOLE_WITHIN_MS = 400_000

const manifests = onePair({
  devices: { count: 2, size: '1Gi' },
  log: '32Mi',
  cache: '64Mi',
  volume: '256Mi',
  spec: ['interconnects: [{ name: default }, { name: ic1 }]', 'takeover: { giveback: Manual }'],
})

/** What the vote says of filer a's side, and whether both copies of both sides are complete. */
interface Ownership {
  epoch: number
  owner: string
  mirrored: boolean
  allMirrored: boolean
}

export class Bed {
  readonly pair: Embedded
  readonly load: Load
  /** By filer; none in a bed without them. */
  readonly disks: ReadonlyMap<string, Disk>
  readonly #leases: Informer
  readonly #own: ReadonlyMap<string, MountPoint>
  readonly #service: MountPoint
  readonly #answers: Answer[]
  readonly #vote: { now: Ownership; moves: number }
  #firstOwner: string
  #firstMoves: number

  private constructor(parts: {
    pair: Embedded
    load: Load
    disks: ReadonlyMap<string, Disk>
    leases: Informer
    own: ReadonlyMap<string, MountPoint>
    service: MountPoint
    answers: Answer[]
    vote: { now: Ownership; moves: number }
  }) {
    this.pair = parts.pair
    this.load = parts.load
    this.disks = parts.disks
    this.#leases = parts.leases
    this.#own = parts.own
    this.#service = parts.service
    this.#answers = parts.answers
    this.#vote = parts.vote
    this.#firstOwner = parts.vote.now.owner
    this.#firstMoves = parts.vote.moves
  }

  /** `withDisks`: on disks that can be filled. `main`: of another build. */
  static async start(seed: number, options: { withDisks?: boolean; main?: string } = {}): Promise<Bed> {
    const { withDisks = false, main } = options
    const pair = await Embedded.start('chaos', manifests, {
      links: 'relayed',
      ...(main === undefined ? {} : { main }),
    })
    const disks = new Map<string, Disk>()
    try {
      await pair.redundant()
      if (withDisks) {
        await pair.down()
        for (const filer of filers)
          disks.set(filer, await Disk.make(join(pair.folder, `disk-${filer}`), pair.claims(filer)))
        await pair.up()
        await pair.redundant()
      }
      const service = await pair.mountPoint()
      const own = new Map<string, MountPoint>()
      for (const filer of filers) {
        const pod = await pair.api.get(PODS, 'default', `east-${filer}-0`)
        const host = (pod['status'] as { podIP: string }).podIP
        own.set(filer, { host, port: NFS_PORT, path: service.path })
      }
      const vote = { now: { epoch: 0, owner: '', mirrored: false, allMirrored: false }, moves: 0 }
      const leases = new Informer(pair.api, LEASES, {
        namespace: 'default',
        onChange: (now) => heard(vote, now),
      })
      await leases.start()
      const answers: Answer[] = []
      const load = await Load.open(
        [
          { mount: service, workers: SERVICE_WORKERS },
          ...[...own].map(([filer, mount]) => ({
            mount,
            workers: 1,
            onAnswer: (startedMs: number, answeredMs: number) =>
              void answers.push({ filer, startedMs, answeredMs }),
          })),
        ],
        { seed },
      )
      load.resume()
      return new Bed({ pair, load, disks, leases, own, service, answers, vote })
    } catch (error) {
      await pair.stop(true)
      throw error
    }
  }

  /** By the vote. */
  get owner(): string {
    return this.#vote.now.owner
  }

  /** Both copies are complete: the vote says so at once, the pair's status later. */
  async whole(): Promise<void> {
    await until('both copies are complete', WHOLE_WITHIN_MS, () => this.#vote.now.allMirrored, 10)
    await this.pair.redundant(WHOLE_WITHIN_MS)
  }

  /** Calls that are made from now on are answered by the Service. */
  async served(): Promise<void> {
    const { rpc } = this.load.clients[0]!
    const wanted = rpc.answers + 2 * SERVICE_WORKERS
    await until('clients are served', SERVED_WITHIN_MS, () => this.failed() || rpc.answers > wanted, 10)
  }

  /** False if it cannot: the owner had just begun to serve alone, as on a machine so busy that filers miss each other's heartbeats. */
  async moved(from: string): Promise<boolean> {
    const { now } = this.#vote
    const known = (): boolean => this.owner !== from || !now.mirrored || !this.#vote.now.mirrored
    await until(`filer ${from}'s partner owns the volume`, SERVED_WITHIN_MS, known, 10)
    return this.owner !== from
  }

  /** Some copy is not complete any more, by the vote. */
  async dropped(): Promise<void> {
    await until('a copy is given up', SERVED_WITHIN_MS, () => !this.#vote.now.allMirrored, 10)
  }

  failed(): boolean {
    return this.load.failure !== undefined
  }

  signal(filer: string, signal: NodeJS.Signals): Promise<unknown> {
    return this.pair.order('/kill', { filer: `east/${filer}`, signal })
  }

  /** Signals the store, which is the vote; a killed one is started again by `up`. */
  async signalVote(signal: NodeJS.Signals): Promise<void> {
    const { processes } = await this.pair.upStatus()
    const pid = processes.find(({ name }) => name === 'store')?.pid
    if (pid !== undefined) process.kill(pid, signal)
  }

  async restoreLinks(): Promise<void> {
    for (const link of links) await this.pair.order('/link', { pair: 'east', link })
  }

  /**
   * All clients come to the Service, which answers all that is in flight; everything is read back and compared. Then the clients at the
   * filers' own addresses go back there. Gives what is wrong.
   */
  async verify(): Promise<string[]> {
    const answers = this.#answers.splice(0)
    await this.#pause()
    const wrong = [...(await this.load.verify()).differences, ...(await this.#ownersProblem(answers))]
    ;[...this.#own.values()].forEach(({ host, port }, n) =>
      this.load.clients[n + 1]!.rpc.redirect(host, port),
    )
    this.#answers.length = 0
    this.load.resume()
    return wrong
  }

  /** With all clients at the Service, where every call is answered in the end. */
  async #pause(): Promise<void> {
    for (const { rpc } of this.load.clients) rpc.redirect(this.#service.host, this.#service.port)
    let paused = false
    void this.load.pause().then(() => (paused = true))
    await until('all calls in flight are answered', SERVED_WITHIN_MS, () => paused, 10)
  }

  /** More moves seen by clients than the vote knows of: two filers owned at the same time. */
  async #ownersProblem(answers: readonly Answer[]): Promise<string[]> {
    const current = (await this.pair.api.list(LEASES, { namespace: 'default' })).items
      .map(ownershipOf)
      .find((ownership) => ownership !== undefined)
    await until('the vote is known', 10_000, () => this.#vote.now.epoch >= (current?.epoch ?? 0), 10)
    const needed = movesNeeded(answers, this.#firstOwner)
    const known = this.#vote.moves - this.#firstMoves
    this.#firstOwner = this.owner
    this.#firstMoves = this.#vote.moves
    if (needed <= known) return []
    this.load.tally.error++
    return [
      `two filers acknowledged at the same time: ${needed} moves of ownership seen by clients, ${known} recorded`,
    ]
  }

  /** Ends everything, and has `tandem check` look at the devices; gives what it finds. */
  async end(keepState: boolean): Promise<string> {
    await this.#leases.stop()
    if (!keepState) await this.#pause()
    this.load.close()
    if (!keepState) await this.whole()
    await this.pair.down()
    const wrong = keepState ? '' : await this.pair.check().then(() => '', String)
    const keep = keepState || wrong !== ''
    for (const disk of this.disks.values()) await disk.end(keep)
    await this.pair.stop(keep)
    return wrong
  }
}

function ownershipOf(lease: KubeObject | undefined): Ownership | undefined {
  const text = lease?.metadata.annotations?.[VOTE_ANNOTATION]
  const sides = text === undefined ? undefined : parseVote(text)?.sides
  const side = sides?.['a']
  if (sides === undefined || side === undefined) return undefined
  const allMirrored = Object.values(sides).every(({ mirrored }) => mirrored)
  return { epoch: side.epoch, owner: side.owner, mirrored: side.mirrored, allMirrored }
}

/** Each change counts; what an interrupted watch missed counts as a move for every epoch, because it may have been one. */
function heard(vote: { now: Ownership; moves: number }, lease: KubeObject | undefined): void {
  const { now } = vote
  const next = ownershipOf(lease)
  if (next === undefined || next.epoch < now.epoch) return
  const missed = Math.max(0, next.epoch - now.epoch - 1)
  vote.moves += missed + (next.owner === now.owner ? 0 : 1)
  vote.now = next
}

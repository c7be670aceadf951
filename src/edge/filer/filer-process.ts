/**
 * A filer as a process: files, devices, sockets, certificates, the Kubernetes API, wired to the core filer. In a pod and in embedded mode
 * alike; what differs comes from the environment (see FilerPodConfig) and from `root`, the folder in front of all paths.
 */
import fs from 'node:fs'
import { join } from 'node:path'
import type { Socket } from 'node:net'
import type { DesiredState, FilerPodConfig } from '../../api/v1alpha1/filer-config.ts'
import { ConnectionManager } from '../../core/connection/manager.ts'
import type { Env } from '../../core/env/env.ts'
import type { FilerSideOptions } from '../../core/filer/filer.ts'
import { Filer } from '../../core/filer/filer.ts'
import type { AggregateDevices } from '../../core/filer/aggregate-store.ts'
import { Mailbox } from '../../core/pair/mailbox.ts'
import type { PairTimes } from '../../core/pair/options.ts'
import type { Vote } from '../../core/pair/vote.ts'
import { NfsServer } from '../../nfs/server/server.ts'
import { GrpcDriver } from '../grpc/driver.ts'
import { GrpcListener } from '../grpc/listener.ts'
import { TlsFiles } from '../grpc/tls.ts'
import type { KubeApi } from '../kube/api.ts'
import { openDevice } from '../node/device.ts'
import { TcpServer } from '../node/tcp-server.ts'
import { filerUri, operatorUri } from '../pki.ts'
import { WatchServer } from '../telemetry/http-server.ts'
import type { Telemetry } from '../telemetry/telemetry.ts'
import type { AddressMap, OwnAddress } from './addresses.ts'
import { ownAddresses, publishAddresses, readAddresses } from './addresses.ts'
import { AdminServer } from './admin-server.ts'
import type { LogFile } from './log-files.ts'
import { LogUse } from './log-fill.ts'
import { logBlocks, openLogFile } from './log-files.ts'
import { PeerConnections } from './peers.ts'
import { moveService } from './service-mover.ts'
import { statusOf } from './status.ts'
import { VolumeLock } from './volume-lock.ts'

export const NFS_PORT = 2049
export const ADMIN_PORT = 7401
export const METRICS_PORT = 9400

export interface FilerProcessOptions {
  readonly config: FilerPodConfig
  /** In front of /var/lib/tandem and /etc/tandem. */
  readonly root: string
  readonly env: Env
  readonly telemetry: Telemetry
  readonly api: KubeApi
  readonly vote: Vote
  /** Address for NFS, administration and metrics. */
  readonly host: string
  readonly environment: NodeJS.ProcessEnv
  /** This process must end now. */
  readonly fatal: (cause: string, error: unknown) => void
  readonly times?: Partial<PairTimes>
}

const LOCK_RETRY_MS = 200
const ADDRESS_POLL_MS = 2000

export class FilerProcess {
  readonly filer: Filer
  readonly #options: FilerProcessOptions
  readonly #parts: Parts
  readonly #nfs: NfsServer
  readonly #tcp: TcpServer
  readonly #admin: AdminServer
  readonly #watch: WatchServer
  readonly #peers: PeerConnections
  #stopping = false

  private constructor(options: FilerProcessOptions, parts: Parts) {
    const { config, env, api } = options
    this.#options = options
    this.#parts = parts
    this.filer = new Filer({
      env,
      me: config.filer,
      partner: config.partner,
      pairUid: config.pairUid,
      cacheBytes: config.cacheBytes,
      mailbox: parts.mailbox,
      vote: options.vote,
      connection: parts.connection,
      sides: parts.sides,
      durability: config.log.durability,
      hooks: {
        moveService: async (side, epoch) => {
          const name = config.services[side]
          if (name !== undefined) await moveService(api, config.namespace, name, config.filer, epoch)
        },
        resetClients: () => this.#nfs.closeAll(),
        fatal: options.fatal,
      },
      ...(options.times === undefined ? {} : { times: options.times }),
    })
    this.#peers = new PeerConnections({
      env,
      config,
      incarnation: parts.mailbox.incarnation,
      listeners: parts.listeners,
      tls: parts.tls,
      user: this.filer.mirrors.link,
      stored: {
        read: () => readJson(this.#peerAddressPath),
        write: (addresses) => writeJson(this.#peerAddressPath, addresses),
      },
    })
    this.#nfs = new NfsServer(env, this.filer.vfs)
    this.#tcp = new TcpServer(this.#nfs, env.log)
    const names = [config.filer, config.partner].map((name) => filerUri(config.namespace, config.pair, name))
    this.#admin = new AdminServer(
      {
        apply: (desired) => this.#apply(desired),
        status: () => statusOf(config, this.filer, parts.connection, this.#peers),
        takeover: (side, epoch) => this.filer.move(side, epoch),
        giveback: (side, epoch) => this.filer.giveback(side, epoch),
        snapshot: (order) => this.filer.snapshot(order),
      },
      parts.tls,
      [operatorUri(config.namespace), ...names],
      env.log,
    )
    this.#watch = new WatchServer({
      metrics: () => options.telemetry.text(),
      alive: () => ({ ok: true, message: 'alive' }),
      ready: () => this.filer.readiness(),
    })
  }

  /** Waits for the log volume's lock, opens everything, starts to serve what the vote allows. */
  static async start(options: FilerProcessOptions): Promise<FilerProcess> {
    const parts = await openParts(options)
    const process = new FilerProcess(options, parts)
    await process.#start()
    return process
  }

  async #start(): Promise<void> {
    const { env, host, config } = this.#options
    const { connection } = this.#parts
    const stored = readJson<DesiredState>(this.#desiredPath)
    // A filer that is started is to run, whatever it was told before it ended.
    if (stored) await this.filer.apply({ ...stored, state: 'Running' })
    this.#peers.set(stored?.peers ?? [])
    connection.onPeerAddresses((addresses) => writeJson(this.#addressPath, addresses))
    connection.start()
    await this.#admin.listen(ADMIN_PORT, host)
    await this.#watch.listen(METRICS_PORT, host)
    await this.#tcp.listen(NFS_PORT, host)
    await this.filer.start()
    void this.#tellAddresses()
    env.log('info', 'filer started', {
      filer: config.filer,
      incarnation: this.#parts.mailbox.incarnation,
      host,
    })
  }

  /** A client's socket that was accepted by the parent (embedded mode). */
  serve(socket: Socket): void {
    this.#tcp.serve(socket)
  }

  /** Planned end: sides go to the partner, or are flushed; then everything is closed. */
  async stop(): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    await this.filer.stop()
    this.#nfs.closeAll()
    this.#tcp.close()
    this.#admin.close()
    this.#watch.close()
    await Promise.all([this.#peers.stop(), this.#parts.connection.stop()])
    for (const file of this.#parts.files) await file.close()
    this.#parts.lock.release()
  }

  get #desiredPath(): string {
    return join(this.#parts.logFolder, 'desired.json')
  }
  get #addressPath(): string {
    return join(this.#parts.logFolder, 'partner-addresses.json')
  }
  get #peerAddressPath(): string {
    return join(this.#parts.logFolder, 'peer-addresses.json')
  }

  async #apply(desired: DesiredState): Promise<number> {
    const known = this.filer.desired
    if (!known || desired.generation >= known.generation) {
      writeJson(this.#desiredPath, desired)
      this.#peers.set(desired.peers ?? [])
    }
    return this.filer.apply(desired)
  }

  /** Own addresses on the own pod, the partner's from its pod; again and again, because pods and their addresses change. */
  async #tellAddresses(): Promise<void> {
    const { api, config, env } = this.#options
    const { connection, own } = this.#parts
    let published = false
    let known = ''
    while (!this.#stopping) {
      try {
        if (!published) await publishAddresses(api, config.namespace, config.pods[config.filer] ?? '', own)
        published = true
        const partner = await readAddresses(api, config.namespace, config.pods[config.partner] ?? '')
        const text = JSON.stringify(partner)
        if (partner && text !== known) {
          known = text
          connection.setPeerAddresses(partner)
          writeJson(this.#addressPath, partner)
        }
      } catch (error) {
        env.log('debug', 'addresses not exchanged', { cause: String(error) })
      }
      // A partner that answers on some interconnect tells its addresses itself.
      const pause = connection.peer() ? 10 * ADDRESS_POLL_MS : ADDRESS_POLL_MS
      await new Promise((resolve) => setTimeout(resolve, pause).unref())
    }
  }
}

interface Parts {
  readonly lock: VolumeLock
  readonly logFolder: string
  readonly mailbox: Mailbox
  readonly tls: TlsFiles
  readonly own: readonly OwnAddress[]
  readonly listeners: ReadonlyMap<string, GrpcListener>
  readonly connection: ConnectionManager
  readonly sides: Record<string, FilerSideOptions>
  readonly files: { close(): Promise<void> }[]
}

async function openParts(options: FilerProcessOptions): Promise<Parts> {
  const { config, root, env } = options
  const logFolder = join(root, '/var/lib/tandem/log')
  fs.mkdirSync(logFolder, { recursive: true })
  const lock = await takeLock(logFolder, env)
  const files: { close(): Promise<void> }[] = []
  const use = new LogUse()
  const log = (name: string, blocks: number): LogFile => {
    const file = openLogFile(join(logFolder, name), blocks, use)
    files.push(file)
    return file
  }
  const mailbox = await Mailbox.open(env, log('mailbox', 2), config.pairUid)
  const sides: Record<string, FilerSideOptions> = {}
  for (const side of [config.filer, config.partner].sort()) {
    const aggregates = config.aggregates.filter((aggregate) => aggregate.filer === side)
    sides[side] = {
      log: log(`log-${side}`, logBlocks(config.log.sizeBytes)),
      aggregates: aggregates.map((aggregate) => openAggregate(root, aggregate, files)),
    }
  }
  const tls = new TlsFiles(join(root, '/etc/tandem/tls'))
  const own = ownAddresses(
    config.interconnects.map(({ name }) => name),
    options.environment,
  )
  const listeners = new Map(
    own.map(({ name, listen, advertise }) => [name, new GrpcListener({ listen, advertise, log: env.log })]),
  )
  const connection = new ConnectionManager({
    env,
    systemId: config.filer,
    partnerId: config.partner,
    incarnation: mailbox.incarnation,
    logBytes: config.log.sizeBytes,
    drivers: [...listeners].map(
      ([name, listener]) =>
        new GrpcDriver({
          name,
          listener,
          tls,
          partnerUri: filerUri(config.namespace, config.pair, config.partner),
        }),
    ),
    peerAddresses: readJson<AddressMap>(join(logFolder, 'partner-addresses.json')) ?? {},
  })
  return { lock, logFolder, mailbox, tls, own, listeners, connection, sides, files }
}

function openAggregate(
  root: string,
  aggregate: FilerPodConfig['aggregates'][number],
  files: { close(): Promise<void> }[],
): AggregateDevices {
  const devices = aggregate.deviceSets.flatMap((set) =>
    Array.from({ length: set.count }, (_, n) => {
      const name = `${aggregate.name}-${set.name}-${n}`
      const path = join(root, '/var/lib/tandem/devices', name)
      if (set.volumeMode === 'Filesystem') fs.mkdirSync(path, { recursive: true })
      const file = set.volumeMode === 'Filesystem' ? join(path, 'device') : path
      const device = openDevice(file, { bytes: set.sizeBytes, name })
      files.push(device)
      return { name, device }
    }),
  )
  return { name: aggregate.name, ...(aggregate.type === undefined ? {} : { type: aggregate.type }), devices }
}

async function takeLock(folder: string, env: Env): Promise<VolumeLock> {
  for (let told = false; ; told = true) {
    const lock = await VolumeLock.tryTake(folder)
    if (lock) return lock
    if (!told) env.log('warn', 'another process of this filer holds the log volume; waiting', { folder })
    await new Promise((resolve) => setTimeout(resolve, LOCK_RETRY_MS))
  }
}

function readJson<T>(path: string): T | undefined {
  try {
    return JSON.parse(fs.readFileSync(path, 'utf8')) as T
  } catch {
    return undefined
  }
}

function writeJson(path: string, value: unknown): void {
  const temporary = `${path}.new`
  const fd = fs.openSync(temporary, 'w', 0o600)
  try {
    fs.writeSync(fd, JSON.stringify(value))
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(temporary, path)
}

/** `tandem filer [--root DIR]`: one filer of a pair, as a pod or a child of `tandem up` runs it. */
import type { Socket } from 'node:net'
import { parseArgs } from 'node:util'
import type { FilerPodConfig } from '../api/v1alpha1/filer-config.ts'
import { FilerProcess } from '../edge/filer/filer-process.ts'
import { LeaseVote } from '../edge/filer/lease-vote.ts'
import { KubeClient, podConnection } from '../edge/kube/client.ts'
import { nodeEnv } from '../edge/node/env.ts'
import { startWatchdog } from '../edge/node/watchdog.ts'
import { Telemetry } from '../edge/telemetry/telemetry.ts'

/** A vote that does not answer within this is undecided: the pair acts on it, so it must not be long. */
const VOTE_TIMEOUT_MS = 1500

interface HandedOver {
  readonly type: string
  readonly id: number
}

export async function run(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: { root: { type: 'string', default: '/' } } })
  const text = process.env['TANDEM_FILER_CONFIG']
  if (text === undefined) throw new Error('TANDEM_FILER_CONFIG is not set')
  const config = JSON.parse(text) as FilerPodConfig
  const telemetry = new Telemetry()
  const level = process.env['TANDEM_LOG_LEVEL'] === 'debug' ? 'debug' : 'info'
  const env = nodeEnv({ metrics: telemetry, level, fields: { pair: config.pair, filer: config.filer } })
  const connection = podConnection()
  const api = new KubeClient(connection)
  const vote = new LeaseVote(
    new KubeClient(connection, { timeoutMs: VOTE_TIMEOUT_MS }),
    config.namespace,
    config.lease,
  )
  let end: (status: number) => void = () => undefined
  const ended = new Promise<number>((resolve) => (end = resolve))
  const fatal = (cause: string, error: unknown): void => {
    env.log('error', cause, { error: error instanceof Error ? error.stack : String(error) })
    // Nothing may be answered any more by a filer that is not sure of itself.
    process.exit(1)
  }
  process.on('uncaughtException', (error) => fatal('uncaught exception', error))
  process.on('unhandledRejection', (error) => fatal('unhandled rejection', error))
  // An object, because what serves is there later than those who ask for it.
  const current: { filer?: FilerProcess } = {}
  process.on('message', (message: HandedOver, socket: Socket | undefined) => {
    if (message.type !== 'connection' || !socket) return
    // Kept until later it would be read from meanwhile; the client tries again.
    if (!current.filer) return void socket.destroy()
    process.send?.({ type: 'taken', id: message.id })
    current.filer.serve(socket)
  })
  let stopping = false
  const stop = (): void => {
    if (stopping) return
    stopping = true
    env.log('info', 'stopping')
    // Still being opened: see below.
    if (!current.filer) return
    current.filer.stop().then(
      () => end(0),
      (error: unknown) => fatal('stop failed', error),
    )
  }
  startWatchdog()
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  const filer = await FilerProcess.start({
    config,
    root: values.root,
    env,
    telemetry,
    api,
    vote,
    host: process.env['POD_IP'] ?? '0.0.0.0',
    environment: process.env,
    fatal,
  })
  current.filer = filer
  // A signal that came while the filer was being opened.
  if (stopping) await filer.stop()
  return stopping ? 0 : ended
}

/**
 * `tandem operator`: wiring only. In a cluster it uses the service account and leads by a Lease; under `tandem up` (TANDEM_KUBE) it is
 * alone; elsewhere it uses the kubeconfig. JSON lines on standard output; /metrics, /livez and /readyz on port 9400.
 *
 *   POD_NAMESPACE, POD_NAME   where the leader's Lease is, and as whom (default: `default`, the host's name)
 *   WATCH_NAMESPACES          comma-separated; empty: all
 *   TANDEM_IMAGE              image of filers whose pair names none
 *   POD_IP                    address to listen on
 */
import { hostname } from 'node:os'
import { KubeClient, podConnection } from '../edge/kube/client.ts'
import type { Connection } from '../edge/kube/client.ts'
import { kubeconfigConnection } from '../edge/kube/kubeconfig.ts'
import { elect } from '../edge/kube/leader.ts'
import { WatchServer } from '../edge/telemetry/http-server.ts'
import { METRICS } from '../edge/telemetry/catalogue.ts'
import { Telemetry } from '../edge/telemetry/telemetry.ts'
import { connectAdmin } from '../operator/admin-grpc.ts'
import { PORTS } from '../operator/names.ts'
import { Operator } from '../operator/operator.ts'
import { tellConditions } from '../operator/runtime/condition-metrics.ts'
import { MANAGER } from '../operator/runtime/executor.ts'

function log(level: 'info' | 'error', message: string): void {
  console.log(JSON.stringify({ time: new Date().toISOString(), level, message }))
}

async function connection(environment: NodeJS.ProcessEnv): Promise<Connection> {
  if (environment['TANDEM_KUBE'] || environment['KUBERNETES_SERVICE_HOST']) return podConnection(environment)
  return (await kubeconfigConnection()).connection
}

export async function run(args: readonly string[]): Promise<number> {
  if (args.length > 0) {
    console.error('usage: tandem operator (configured by environment variables, see docs/operator.md)')
    return 64
  }
  const environment = process.env
  const api = new KubeClient(await connection(environment), { fieldManager: MANAGER })
  const stop = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort())
  // Whoever started us holds the other end of the channel; without it nobody would ever end us.
  process.once('disconnect', () => stop.abort())

  const catalogue = new Map([...METRICS].filter(([name]) => name.startsWith('tandem_operator_')))
  const telemetry = new Telemetry({ catalogue })
  let state: 'candidate' | 'leader' = 'candidate'
  const server = new WatchServer({
    metrics: () => telemetry.text(),
    alive: () => ({ ok: true, message: state }),
    ready: () => ({ ok: true, message: state }),
  })
  await server.listen(PORTS.metrics, environment['POD_IP'] ?? '0.0.0.0')

  try {
    const embedded = Boolean(environment['TANDEM_KUBE'])
    const term = embedded
      ? { lost: new Promise<void>(() => {}) }
      : await elect(api, {
          namespace: environment['POD_NAMESPACE'] ?? 'default',
          name: 'tandem-operator',
          identity: `${environment['POD_NAME'] ?? hostname()}-${process.pid}`,
          signal: stop.signal,
          onError: (error) => log('error', `leader election: ${(error as Error).message}`),
        })
    if (term === undefined) return 0
    state = 'leader'
    telemetry.set('tandem_operator_leader', 1)
    const namespaces = (environment['WATCH_NAMESPACES'] ?? '').split(',').filter((name) => name !== '')
    const operator = new Operator({
      api,
      connect: connectAdmin,
      image: environment['TANDEM_IMAGE'] ?? 'tandem',
      ...(namespaces.length === 0 ? {} : { namespaces }),
      log: (message) => log('info', message),
      onPass: (_, { writes, seconds, error }) => {
        telemetry.observe('tandem_operator_pass_seconds', seconds)
        telemetry.add('tandem_operator_writes_total', writes)
        if (error !== undefined) telemetry.add('tandem_operator_failed_passes_total')
      },
      onOwn: (now, before) => tellConditions(telemetry, now, before),
    })
    const stopped = new Promise<'stopped'>((resolve) => {
      if (stop.signal.aborted) resolve('stopped')
      stop.signal.addEventListener('abort', () => resolve('stopped'))
    })
    const lost = term.lost.then(() => 'lost' as const)
    // While the first lists are under way the term may end already.
    const end = await Promise.race([operator.start().then(() => undefined), lost, stopped])
    if (end === undefined) log('info', 'every pair has been looked at')
    const why = end ?? (await Promise.race([lost, stopped]))
    if (why === 'lost' && !stop.signal.aborted) {
      log('error', 'no longer the leader; ending')
      return 1
    }
    await operator.stop()
    stop.abort()
    if (!embedded) await term.lost
    return 0
  } finally {
    server.close()
    api.close()
  }
}

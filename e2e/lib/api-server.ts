/** etcd and kube-apiserver on this machine's loopback (cluster/quick.sh), for programs that need a real API and no nodes. */
import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { freePorts } from './ports.ts'
import { stateFolder, sweep } from './state.ts'

const quick = join(import.meta.dirname, '../cluster/quick.sh')

/** Kubernetes 1.20.2 unless KUBEBUILDER_ASSETS names newer programs. */
export const programs =
  process.env['KUBEBUILDER_ASSETS'] ??
  join(process.env['TANDEM_CACHE'] ?? join(homedir(), '.cache/tandem'), 'kubernetes/bin')

export interface ApiServer {
  readonly kubeconfig: string
  /** Processes of etcd and the API server. */
  readonly pids: readonly number[]
  stop(): Promise<void>
}

export async function startApiServer(kind: string): Promise<ApiServer> {
  // A killed run's server ended with it (quick.sh run), only its folder may be left.
  await sweep(kind)
  const state = stateFolder(kind)
  const folder = join(state, 'server')
  const child = spawn(quick, ['run', folder, String(await freePorts(3))], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const over = new Promise<void>((resolve) => child.on('close', () => resolve()))
  const ready = new Promise<boolean>((resolve) => {
    child.stdout.on('data', () => resolve(true))
    child.on('close', () => resolve(false))
  })
  if (!(await ready)) throw new Error('the API server did not start')
  return {
    kubeconfig: join(folder, 'pki/admin.kubeconfig'),
    pids: ['etcd', 'kube-apiserver'].map((name) => Number(readFileSync(join(folder, `${name}.pid`), 'utf8'))),
    stop: async () => {
      child.stdin.end()
      await over
      rmSync(state, { recursive: true, force: true })
    },
  }
}

/** To which API a command of the command line speaks: with --state the store of an embedded instance, else the current kube context. */
import { existsSync } from 'node:fs'
import { KubeClient } from '../../edge/kube/client.ts'
import { KubeError } from '../../edge/kube/api.ts'
import { kubeconfigConnection, kubeconfigPath } from '../../edge/kube/kubeconfig.ts'
import { notRunning } from '../up/control.ts'
import { isOurs, stateDir } from '../up/state-dir.ts'
import type { StateDir } from '../up/state-dir.ts'
import type { Flag, Parsed } from './args.ts'

export const STATE_FLAG: Flag = {
  kind: 'text',
  value: 'DIR',
  meaning: 'an embedded instance; without it, the current kube context',
}
export const NAMESPACE_FLAG: Flag = {
  kind: 'text',
  short: 'n',
  value: 'NAMESPACE',
  meaning: 'default: that of the context',
}

export const TIMEOUT_FLAG: Flag = { kind: 'text', value: 'TIME', meaning: 'default 30s' }

/** Owner of the fields that people apply. */
export const CLI_MANAGER = 'tandem-cli'

export interface Target {
  readonly api: KubeClient
  readonly namespace: string
}

export async function openTarget(parsed: Parsed): Promise<Target> {
  const state = parsed.text('state')
  const namespace = parsed.text('namespace')
  if (state !== undefined) {
    const dir = runningDir(state)
    const api = new KubeClient({ server: `unix:${dir.storeSocket}` }, { fieldManager: CLI_MANAGER })
    return { api, namespace: namespace ?? 'default' }
  }
  const path = kubeconfigPath()
  if (!existsSync(path))
    throw new Error(
      `no kubeconfig (${path}), and no --state DIR: which cluster or embedded instance is meant?`,
    )
  const context = await kubeconfigConnection(path)
  return {
    api: new KubeClient(context.connection, { fieldManager: CLI_MANAGER }),
    namespace: namespace ?? context.namespace,
  }
}

/** The folder of an instance that runs. */
export function runningDir(path: string): StateDir {
  const dir = stateDir(path)
  if (!isOurs(dir)) throw new Error(`${dir.path} is not the state of an embedded instance; is --state right?`)
  if (!existsSync(dir.storeSocket)) throw new Error(notRunning(dir))
  return dir
}

/** An error of the API in one sentence for a person. */
export function explain(error: unknown): string {
  if (error instanceof KubeError && error.code === 403) return `not allowed: ${error.message}`
  return error instanceof Error ? error.message : String(error)
}

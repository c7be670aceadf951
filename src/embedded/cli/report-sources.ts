/** Logs, metrics and versions for `tandem report`: from a cluster through its API server, from an embedded instance out of its folder. */
import { closeSync, fstatSync, openSync, readSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { KubeObject } from '../../edge/kube/api.ts'
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeClient } from '../../edge/kube/client.ts'
import { PODS } from '../../edge/kube/resources.ts'
import type { StateDir } from '../up/state-dir.ts'
import type { Sources } from './report.ts'

const METRICS_PORT = 9400
const METRICS_TIMEOUT_MS = 5000
/** More than a line of ours has. */
const LINE_BYTES = 500

const podPath = ({ metadata: { namespace = '', name } }: KubeObject): string =>
  `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`

/** The operator's pods are looked for by their labels, in `operatorNamespace`. */
export function clusterSources(api: KubeClient, lines: number, operatorNamespace: string): Sources {
  const tailLines = String(lines)
  return {
    version: async () => (JSON.parse(await api.text('/version')) as { gitVersion: string }).gitVersion,
    logs: async (pods) => {
      const labelSelector = 'app.kubernetes.io/name=tandem,app.kubernetes.io/component=operator'
      // Who may not look there gets the filers' logs all the same.
      const { items: operators } = await api
        .list(PODS, { namespace: operatorNamespace, labelSelector })
        .catch((error: unknown) => {
          if (error instanceof KubeError && error.code === 403) return { items: [] }
          throw error
        })
      const logs = new Map<string, () => Promise<string>>()
      for (const pod of [...pods, ...operators]) {
        const { name } = pod.metadata
        logs.set(name, () => api.text(`${podPath(pod)}/log`, { tailLines }))
        if (hasRestarted(pod))
          logs.set(`${name}-previous`, () => api.text(`${podPath(pod)}/log`, { tailLines, previous: 'true' }))
      }
      return logs
    },
    metrics: (pod) =>
      api.text(`${podPath(pod).replace(/[^/]*$/, '')}${pod.metadata.name}:${METRICS_PORT}/proxy/metrics`),
  }
}

export function embeddedSources(dir: StateDir, lines: number): Sources {
  return {
    version: () => Promise.resolve('embedded'),
    logs: () =>
      Promise.resolve(
        new Map(
          readdirSync(dir.logs)
            .filter((name) => name.endsWith('.log'))
            .map((name) => [
              name.slice(0, -'.log'.length),
              () => Promise.resolve(tail(join(dir.logs, name), lines)),
            ]),
        ),
      ),
    metrics: async (pod) => {
      const { podIP } = (pod['status'] ?? {}) as { podIP?: string }
      if (podIP === undefined) throw new Error('it does not run')
      const signal = AbortSignal.timeout(METRICS_TIMEOUT_MS)
      return (await fetch(`http://${podIP}:${METRICS_PORT}/metrics`, { signal })).text()
    },
  }
}

function hasRestarted(pod: KubeObject): boolean {
  const { containerStatuses = [] } = (pod['status'] ?? {}) as {
    containerStatuses?: { restartCount: number }[]
  }
  return containerStatuses.some(({ restartCount }) => restartCount > 0)
}

/** The last lines of a file, whole ones only. */
export function tail(path: string, lines: number): string {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const bytes = Buffer.alloc(Math.min(size, lines * LINE_BYTES))
    const read = readSync(file, bytes, 0, bytes.length, size - bytes.length)
    const found = bytes.subarray(0, read).toString('utf8').split('\n')
    if (size > bytes.length) found.shift()
    return found.slice(-lines - 1).join('\n')
  } finally {
    closeSync(file)
  }
}

/**
 * A connection from a kubeconfig, for the operator outside of a cluster and for the command line. Certificates, tokens and skipped
 * verification are read here; credential plug-ins are left to @kubernetes/client-node, which is loaded only if one is asked for.
 */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parse } from 'yaml'
import type { Connection } from './client.ts'

interface Named<T> {
  readonly name: string
  readonly [part: string]: T | string
}
interface Config {
  readonly 'current-context'?: string
  readonly contexts?: readonly Named<{ cluster: string; user: string; namespace?: string }>[]
  readonly clusters?: readonly Named<Record<string, string | boolean>>[]
  readonly users?: readonly Named<Record<string, unknown>>[]
}

/** First path of KUBECONFIG, else ~/.kube/config. */
export function kubeconfigPath(environment: NodeJS.ProcessEnv = process.env): string {
  return (
    environment['KUBECONFIG']?.split(':').find((path) => path !== '') ?? join(homedir(), '.kube', 'config')
  )
}

export async function kubeconfigConnection(
  path = kubeconfigPath(),
): Promise<{ connection: Connection; namespace: string }> {
  const config = parse(readFileSync(path, 'utf8')) as Config
  const wanted = config['current-context'] ?? config.contexts?.[0]?.name
  const context = entry(config.contexts, wanted, 'context') as
    { cluster: string; user: string; namespace?: string } | undefined
  if (context === undefined) throw new Error(`${path}: no context ${wanted ?? ''}`)
  const cluster = entry(config.clusters, context.cluster, 'cluster') as
    Record<string, string | boolean> | undefined
  if (typeof cluster?.['server'] !== 'string') throw new Error(`${path}: no cluster ${context.cluster}`)
  const user = (entry(config.users, context.user, 'user') ?? {}) as Record<string, unknown>
  const namespace = context.namespace ?? 'default'
  const base = dirname(path)
  const data = (from: Record<string, unknown>, field: string): Buffer | undefined => {
    const inline = from[`${field}-data`]
    if (typeof inline === 'string') return Buffer.from(inline, 'base64')
    const file = from[field]
    return typeof file === 'string' ? readFileSync(resolve(base, file)) : undefined
  }
  const ca = data(cluster, 'certificate-authority')
  const servername = cluster['tls-server-name']
  const common = {
    ...(ca === undefined ? {} : { ca }),
    ...(typeof servername === 'string' ? { servername } : {}),
    ...(cluster['insecure-skip-tls-verify'] === true ? { rejectUnauthorized: false } : {}),
  }
  if (user['exec'] !== undefined || user['auth-provider'] !== undefined)
    return { connection: await pluginConnection(path, cluster['server'], common), namespace }
  const cert = data(user, 'client-certificate')
  const key = data(user, 'client-key')
  const tokenFile = user['tokenFile']
  const token = user['token']
  return {
    namespace,
    connection: {
      server: cluster['server'],
      tls: { ...common, ...(cert && key ? { cert, key } : {}) },
      token: () =>
        typeof tokenFile === 'string'
          ? readFileSync(resolve(base, tokenFile), 'utf8').trim()
          : typeof token === 'string'
            ? token
            : undefined,
    },
  }
}

function entry(list: readonly Named<unknown>[] | undefined, name: string | undefined, part: string): unknown {
  return list?.find((item) => item.name === name)?.[part]
}

async function pluginConnection(
  path: string,
  server: string,
  common: Connection['tls'],
): Promise<Connection> {
  const { KubeConfig } = await import('@kubernetes/client-node')
  const config = new KubeConfig()
  config.loadFromFile(path)
  const options: { headers?: Record<string, string>; cert?: Buffer; key?: Buffer } = {}
  await config.applyToHTTPSOptions(options)
  const bearer = Object.entries(options.headers ?? {}).find(
    ([name]) => name.toLowerCase() === 'authorization',
  )?.[1]
  const token = bearer?.replace(/^Bearer /, '')
  return {
    server,
    tls: { ...common, ...(options.cert && options.key ? { cert: options.cert, key: options.key } : {}) },
    token: () => token,
  }
}

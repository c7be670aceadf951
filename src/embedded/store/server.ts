/**
 * The store's face: the paths, verbs and answers of the Kubernetes REST API, as far as this project uses them (edge/kube/api.ts),
 * over HTTP. Who may connect is decided by the mode of the folder that holds the socket.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { parse as parseYaml } from 'yaml'
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeObject, ListOptions } from '../../edge/kube/api.ts'
import type { WriteOptions } from './object-store.ts'
import { RESOURCES, apiVersionOf, findResource } from './resources.ts'
import type { StoredResource } from './resources.ts'
import type { Store } from './store.ts'

const BODY_BYTES_MAX = 3 << 20
const BOOKMARK_EVERY_MS = 10_000
const WATCH_SECONDS_DEFAULT = 300

export interface Target {
  readonly resource: StoredResource
  readonly namespace: string | undefined
  readonly name: string | undefined
  readonly subresource: 'status' | undefined
}

/** `/api/v1/…` and `/apis/<group>/<version>/…`; undefined: no such collection. */
export function parsePath(path: string): Target | undefined {
  const parts = path
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent)
  const isCore = parts[0] === 'api'
  if (!isCore && parts[0] !== 'apis') return undefined
  const [group, version] = isCore ? ['', parts[1]] : [parts[1], parts[2]]
  let rest = parts.slice(isCore ? 2 : 3)
  let namespace: string | undefined
  const inNamespace =
    rest[0] === 'namespaces' && rest.length >= 3 && rest[2] !== 'status' && rest[2] !== 'finalize'
  if (inNamespace) {
    namespace = rest[1]
    rest = rest.slice(2)
  }
  const [plural, name, sub, ...more] = rest
  const resource = findResource(group ?? '', version ?? '', plural ?? '')
  if (resource === undefined || more.length > 0) return undefined
  if (namespace !== undefined && !resource.namespaced) return undefined
  if (resource.namespaced && namespace === undefined && name !== undefined) return undefined
  if (sub !== undefined && (sub !== 'status' || !resource.status)) return undefined
  return { resource, namespace, name, subresource: sub }
}

export function storeServer(store: Store, log: (message: string) => void): Server {
  const server = createServer((request, response) => {
    answer(store, request, response).catch((error: unknown) => {
      if (!(error instanceof KubeError)) log(`${request.method ?? ''} ${request.url ?? ''}: ${String(error)}`)
      if (response.headersSent) response.destroy()
      else sendStatus(response, error)
    })
  })
  server.keepAliveTimeout = 120_000
  server.requestTimeout = 30_000
  return server
}

async function answer(store: Store, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://store')
  const query = url.searchParams
  const method = request.method ?? 'GET'
  const target = parsePath(url.pathname)
  if (target === undefined) {
    const found = method === 'GET' ? discovery(url.pathname) : undefined
    if (found === undefined)
      throw new KubeError(404, 'NotFound', `the server could not find the requested resource ${url.pathname}`)
    return send(response, 200, found)
  }
  const { resource, name } = target
  const namespace = target.namespace ?? ''
  if (method === 'GET' && name === undefined) {
    const options = listOptions(target, query)
    return ['1', 'true'].includes(query.get('watch') ?? '')
      ? watch(store, target, options, query, request, response)
      : sendList(store, target, options, response)
  }
  if (method === 'GET') {
    const object = store.objects.get(resource, namespace, name!)
    await store.settled()
    return send(response, 200, object)
  }
  const body = await readBody(request)
  const write: WriteOptions = {
    subresource: target.subresource,
    manager: query.get('fieldManager') ?? (request.headers['user-agent'] ?? 'unknown').split('/')[0]!,
    dryRun: query.get('dryRun') === 'All',
  }
  const before = store.objects.revision
  const [status, result] = mutate(
    store,
    target,
    method,
    request.headers['content-type'] ?? '',
    body,
    write,
    query,
  )
  if (store.objects.revision > before) ensureNamespace(store, target)
  await store.settled()
  send(response, status, result)
}

function mutate(
  store: Store,
  { resource, namespace = '', name }: Target,
  method: string,
  contentType: string,
  body: string,
  write: WriteOptions,
  query: URLSearchParams,
): [number, unknown] {
  const objects = store.objects
  if (method === 'POST' && name === undefined)
    return [201, objects.create(resource, namespace, parse(body) as KubeObject, write)]
  if (method === 'PUT' && name !== undefined) {
    const object = parse(body) as KubeObject
    if (object.metadata?.name !== name)
      throw new KubeError(400, 'BadRequest', `the name of the object is not that of the request (${name})`)
    return [200, objects.update(resource, namespace, object, write)]
  }
  if (method === 'PATCH' && name !== undefined) {
    if (contentType.startsWith('application/merge-patch+json'))
      return [200, objects.patch(resource, namespace, name, parse(body), write)]
    if (contentType.startsWith('application/apply-patch+yaml')) {
      if (query.get('fieldManager') === null)
        throw new KubeError(400, 'BadRequest', 'fieldManager is required for apply patch')
      return [200, objects.apply(resource, namespace, name, parse(body) as KubeObject, write)]
    }
    throw new KubeError(
      415,
      'UnsupportedMediaType',
      `the body of the request was in an unknown format: ${contentType}`,
    )
  }
  if (method === 'DELETE' && name !== undefined) {
    const options = (body.trim() === '' ? {} : parse(body)) as {
      preconditions?: { uid?: string; resourceVersion?: string }
      gracePeriodSeconds?: number
      propagationPolicy?: string
    }
    const seconds = query.get('gracePeriodSeconds')
    const deleted = objects.delete(resource, namespace, name, {
      uid: options.preconditions?.uid,
      resourceVersion: options.preconditions?.resourceVersion,
      gracePeriodSeconds: seconds === null ? options.gracePeriodSeconds : Number(seconds),
      orphan: (query.get('propagationPolicy') ?? options.propagationPolicy) === 'Orphan',
      dryRun: write.dryRun,
    })
    return [200, deleted]
  }
  throw new KubeError(405, 'MethodNotAllowed', `the server does not allow ${method} here`)
}

/** Namespaces come with the first object in them: there is nobody who would make them. */
function ensureNamespace(store: Store, { resource, namespace }: Target): void {
  const namespaces = findResource('', 'v1', 'namespaces')!
  if (namespace === undefined || !resource.namespaced) return
  if (store.objects.list(namespaces).some((object) => object.metadata.name === namespace)) return
  store.objects.create(
    namespaces,
    '',
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
    { manager: 'tandem-store' },
  )
}

function listOptions({ namespace, resource }: Target, query: URLSearchParams): ListOptions {
  const labels = query.get('labelSelector')
  const fields = query.get('fieldSelector')
  return {
    ...(namespace === undefined || !resource.namespaced ? {} : { namespace }),
    ...(labels === null ? {} : { labelSelector: labels }),
    ...(fields === null ? {} : { fieldSelector: fields }),
  }
}

async function sendList(
  store: Store,
  { resource }: Target,
  options: ListOptions,
  response: ServerResponse,
): Promise<void> {
  const items = store.objects.list(resource, options)
  const resourceVersion = String(store.objects.revision)
  await store.settled()
  send(response, 200, {
    apiVersion: apiVersionOf(resource),
    kind: `${resource.kind}List`,
    metadata: { resourceVersion },
    items,
  })
}

async function watch(
  store: Store,
  { resource }: Target,
  options: ListOptions,
  query: URLSearchParams,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  await store.settled()
  const from = query.get('resourceVersion') ?? ''
  const bookmarks = ['1', 'true'].includes(query.get('allowWatchBookmarks') ?? '')
  const seconds = Number(query.get('timeoutSeconds') ?? WATCH_SECONDS_DEFAULT) || WATCH_SECONDS_DEFAULT
  const write = (type: string, object: unknown): void => {
    response.write(`${JSON.stringify({ type, object })}\n`)
  }
  const bookmark = (): void => {
    if (!bookmarks) return
    const metadata = { resourceVersion: String(store.watches.published), creationTimestamp: null }
    write('BOOKMARK', { apiVersion: apiVersionOf(resource), kind: resource.kind, metadata })
  }
  const isAnyVersion = from === '' || from === '0'
  const revision = isAnyVersion ? store.watches.published : Number(from)
  if (!Number.isSafeInteger(revision))
    throw new KubeError(400, 'BadRequest', `resourceVersion ${JSON.stringify(from)} is not a number`)
  const held: [string, unknown][] = []
  let started = false
  const stop = store.watches.watch(resource, revision, options, ({ type, object }) => {
    if (started) write(type, object)
    else held.push([type, object])
  })
  response.writeHead(200, { 'content-type': 'application/json' })
  response.flushHeaders()
  if (isAnyVersion) for (const object of store.objects.list(resource, options)) write('ADDED', object)
  for (const [type, object] of held) write(type, object)
  started = true
  const bookmarkTimer = setInterval(bookmark, BOOKMARK_EVERY_MS)
  const endTimer = setTimeout(() => {
    bookmark()
    response.end()
  }, seconds * 1000)
  const end = (): void => {
    stop()
    clearInterval(bookmarkTimer)
    clearTimeout(endTimer)
  }
  response.on('close', end)
  request.on('aborted', end)
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > BODY_BYTES_MAX)
      throw new KubeError(
        413,
        'RequestEntityTooLarge',
        `the body is larger than ${String(BODY_BYTES_MAX)} bytes`,
      )
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** JSON is YAML. */
function parse(body: string): unknown {
  try {
    return body.trimStart().startsWith('{') ? JSON.parse(body) : parseYaml(body)
  } catch (error) {
    throw new KubeError(400, 'BadRequest', `the body is not an object: ${(error as Error).message}`)
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

function sendStatus(response: ServerResponse, error: unknown): void {
  const code = error instanceof KubeError ? error.code : 500
  const reason = error instanceof KubeError ? error.reason : 'InternalError'
  const message = error instanceof Error ? error.message : String(error)
  send(response, code, { apiVersion: 'v1', kind: 'Status', status: 'Failure', code, reason, message })
}

/** What an API server tells about itself, as far as a client asks: its version, its groups and what is in them. */
function discovery(path: string): unknown {
  if (path === '/healthz' || path === '/readyz' || path === '/livez') return 'ok'
  if (path === '/version') return { major: '1', minor: '36', gitVersion: 'v1.36.0-tandem-embedded' }
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] }
  const groups = [...new Set(RESOURCES.map((r) => r.group))].filter((group) => group !== '')
  const groupOf = (name: string): unknown => {
    const versions = [...new Set(RESOURCES.filter((r) => r.group === name).map((r) => r.version))].map(
      (version) => ({
        groupVersion: `${name}/${version}`,
        version,
      }),
    )
    return { kind: 'APIGroup', apiVersion: 'v1', name, versions, preferredVersion: versions[0] }
  }
  if (path === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups.map(groupOf) }
  const parts = path.split('/').filter((part) => part !== '')
  if (parts[0] === 'apis' && parts.length === 2 && groups.includes(parts[1]!)) return groupOf(parts[1]!)
  const group =
    parts[0] === 'api' && parts.length === 2
      ? ''
      : parts[0] === 'apis' && parts.length === 3
        ? parts[1]
        : undefined
  const members = RESOURCES.filter((r) => r.group === group && r.version === parts.at(-1))
  if (group === undefined || members.length === 0) return undefined
  const verbs = ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch']
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: apiVersionOf(members[0]!),
    resources: members.flatMap((r) => [
      { name: r.plural, kind: r.kind, namespaced: r.namespaced, shortNames: r.shortNames, verbs },
      ...(r.status ? [{ name: `${r.plural}/status`, kind: r.kind, namespaced: r.namespaced, verbs }] : []),
    ]),
  }
}

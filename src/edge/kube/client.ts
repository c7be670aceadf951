/**
 * KubeApi over HTTP: to an API server (HTTPS, service account or kubeconfig) or to the embedded store (Unix socket). Small on
 * purpose, for a filer loads it: it knows paths, verbs and Status answers, and no kind's fields.
 *
 * Every request has a deadline; a watch ends at its time-out or when nothing was heard for longer than that. A request that fails
 * before an answer rejects with KubeError 0 `Unreachable`: whether it took effect is unknown.
 */
import { readFileSync } from 'node:fs'
import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { AgentOptions } from 'node:https'
import type { KubeApi, KubeObject, ListOptions, Resource, WatchEvent } from './api.ts'
import { KubeError } from './api.ts'

/** Where the API is and who asks. */
export interface Connection {
  /** `https://host:port[/prefix]`, or `unix:/path`. */
  readonly server: string
  readonly tls?: Pick<AgentOptions, 'ca' | 'cert' | 'key' | 'rejectUnauthorized' | 'servername'>
  /** Asked before each request, for tokens are renewed. */
  readonly token?: () => string | undefined
  /** Acts as this user, for those who may. */
  readonly impersonate?: string
}
export interface ClientOptions {
  /** How long an answer may take. */
  readonly timeoutMs?: number
  /** Owner of fields that are written without server-side apply. */
  readonly fieldManager?: string
}

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'
/** Kubelet writes a new token long before the old one expires; reading the file once a minute is enough. */
const TOKEN_REREAD_MS = 60_000
const WATCH_SECONDS = 300
const WATCH_GRACE_MS = 10_000
const LIST_LIMIT = 500

/** In a pod: the service account. With TANDEM_KUBE: the embedded store. */
export function podConnection(environment: NodeJS.ProcessEnv = process.env): Connection {
  const given = environment['TANDEM_KUBE']
  if (given !== undefined && given !== '') return { server: given }
  const host = environment['KUBERNETES_SERVICE_HOST']
  const port = environment['KUBERNETES_SERVICE_PORT'] ?? '443'
  if (host === undefined)
    throw new Error('no Kubernetes API: not in a pod (KUBERNETES_SERVICE_HOST is not set) and no TANDEM_KUBE')
  let token: string | undefined
  let readAtMs = -Infinity
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    tls: { ca: readFileSync(`${SERVICE_ACCOUNT}/ca.crt`) },
    token: () => {
      if (performance.now() - readAtMs >= TOKEN_REREAD_MS) {
        token = readFileSync(`${SERVICE_ACCOUNT}/token`, 'utf8').trim()
        readAtMs = performance.now()
      }
      return token
    },
  }
}

export function resourcePath(resource: Resource, namespace?: string, name?: string): string {
  const base =
    resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`
  const inNamespace =
    resource.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : ''
  const ofName = name === undefined ? '' : `/${encodeURIComponent(name)}`
  return `${base}${inNamespace}/${resource.plural}${ofName}`
}

export class KubeClient implements KubeApi {
  readonly #connection: Connection
  readonly #timeoutMs: number
  readonly #fieldManager: string
  readonly #agent: HttpAgent
  readonly #target: RequestOptions
  readonly #prefix: string
  readonly #secure: boolean

  constructor(connection: Connection, options: ClientOptions = {}) {
    this.#connection = connection
    this.#timeoutMs = options.timeoutMs ?? 10_000
    this.#fieldManager = options.fieldManager ?? 'tandem'
    const keepAlive = { keepAlive: true, keepAliveMsecs: 15_000 }
    if (connection.server.startsWith('unix:')) {
      this.#secure = false
      this.#prefix = ''
      this.#target = { socketPath: connection.server.slice('unix:'.length), host: 'localhost' }
      this.#agent = new HttpAgent(keepAlive)
      return
    }
    const url = new URL(connection.server)
    this.#secure = url.protocol === 'https:'
    this.#prefix = url.pathname.replace(/\/$/, '')
    this.#target = { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port || (this.#secure ? 443 : 80) }
    this.#agent = this.#secure
      ? new HttpsAgent({ ...keepAlive, ...connection.tls })
      : new HttpAgent(keepAlive)
  }

  /** Ends idle connections; requests under way go on. */
  close(): void {
    this.#agent.destroy()
  }

  async get(resource: Resource, namespace: string, name: string): Promise<KubeObject> {
    return (await this.#call('GET', resourcePath(resource, namespace, name))) as KubeObject
  }

  /** The text at a path of the API that is no object: a log, metrics of a pod, the version. */
  async text(path: string, query: Record<string, string> = {}): Promise<string> {
    return text(await this.#send('GET', path, query, undefined, undefined, {}))
  }

  async list(
    resource: Resource,
    options: ListOptions = {},
  ): Promise<{ resourceVersion: string; items: KubeObject[] }> {
    const items: KubeObject[] = []
    let resourceVersion = ''
    let next: string | undefined
    do {
      const query = { ...selectors(options), limit: String(LIST_LIMIT), ...(next ? { continue: next } : {}) }
      const page = (await this.#call('GET', resourcePath(resource, options.namespace), query)) as {
        metadata: { resourceVersion: string; continue?: string }
        items: KubeObject[]
      }
      // Entries of a list come without kind.
      const apiVersion = resource.group === '' ? resource.version : `${resource.group}/${resource.version}`
      for (const item of page.items) items.push({ ...item, apiVersion, kind: resource.kind })
      resourceVersion = page.metadata.resourceVersion
      next = page.metadata.continue === '' ? undefined : page.metadata.continue
    } while (next !== undefined)
    return { resourceVersion, items }
  }

  async *watch(
    resource: Resource,
    resourceVersion: string,
    options: ListOptions & { signal?: AbortSignal; timeoutSeconds?: number },
  ): AsyncIterable<WatchEvent> {
    const timeoutSeconds = options.timeoutSeconds ?? WATCH_SECONDS
    const query = {
      ...selectors(options),
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion,
      timeoutSeconds: String(timeoutSeconds),
    }
    const deadlineMs = timeoutSeconds * 1000 + WATCH_GRACE_MS
    const path = resourcePath(resource, options.namespace)
    const response = await this.#send('GET', path, query, undefined, undefined, {
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      streamMs: deadlineMs,
    })
    try {
      for await (const line of lines(response)) {
        const event = JSON.parse(line) as { type: string; object: unknown }
        if (event.type === 'ERROR') throw statusError(event.object, 0)
        yield event as WatchEvent
      }
    } catch (error) {
      if (options.signal?.aborted) return
      throw error instanceof KubeError ? error : unreachable(error)
    } finally {
      response.destroy()
    }
  }

  async create(resource: Resource, object: KubeObject): Promise<KubeObject> {
    const path = resourcePath(resource, object.metadata.namespace)
    return (await this.#call('POST', path, { fieldManager: this.#fieldManager }, object)) as KubeObject
  }

  async update(resource: Resource, object: KubeObject, subresource?: 'status'): Promise<KubeObject> {
    const path = this.#objectPath(resource, object.metadata.namespace, object.metadata.name, subresource)
    return (await this.#call('PUT', path, { fieldManager: this.#fieldManager }, object)) as KubeObject
  }

  async mergePatch(
    resource: Resource,
    namespace: string,
    name: string,
    patch: unknown,
    subresource?: 'status',
  ): Promise<KubeObject> {
    const path = this.#objectPath(resource, namespace, name, subresource)
    const query = { fieldManager: this.#fieldManager }
    return (await this.#call('PATCH', path, query, patch, 'application/merge-patch+json')) as KubeObject
  }

  async apply(
    resource: Resource,
    object: KubeObject,
    manager: string,
    subresource?: 'status',
  ): Promise<KubeObject> {
    const path = this.#objectPath(resource, object.metadata.namespace, object.metadata.name, subresource)
    const query = { fieldManager: manager, force: 'true' }
    return (await this.#call('PATCH', path, query, object, 'application/apply-patch+yaml')) as KubeObject
  }

  async delete(
    resource: Resource,
    namespace: string,
    name: string,
    options: {
      uid?: string
      gracePeriodSeconds?: number
      propagationPolicy?: 'Background' | 'Foreground' | 'Orphan'
    } = {},
  ): Promise<void> {
    const { uid, ...rest } = options
    await this.#call(
      'DELETE',
      resourcePath(resource, namespace, name),
      {},
      {
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        propagationPolicy: 'Background',
        ...rest,
        ...(uid === undefined ? {} : { preconditions: { uid } }),
      },
    )
  }

  #objectPath(
    resource: Resource,
    namespace: string | undefined,
    name: string,
    subresource?: 'status',
  ): string {
    return resourcePath(resource, namespace, name) + (subresource === undefined ? '' : `/${subresource}`)
  }

  async #call(
    method: string,
    path: string,
    query: Record<string, string> = {},
    body?: unknown,
    contentType = 'application/json',
  ): Promise<unknown> {
    const response = await this.#send(method, path, query, body, contentType, {})
    return JSON.parse(await text(response))
  }

  /** Resolves with a 2xx answer whose body has not been read; the deadline covers the body too. */
  #send(
    method: string,
    path: string,
    query: Record<string, string>,
    body: unknown,
    contentType: string | undefined,
    options: { signal?: AbortSignal; streamMs?: number },
  ): Promise<IncomingMessage> {
    const search = new URLSearchParams(query).toString()
    const payload = body === undefined ? undefined : JSON.stringify(body)
    const token = this.#connection.token?.()
    const { impersonate } = this.#connection
    return new Promise((resolve, reject) => {
      const make = this.#secure ? httpsRequest : httpRequest
      let timer: NodeJS.Timeout
      const request: ClientRequest = make(
        {
          ...this.#target,
          agent: this.#agent,
          method,
          path: `${this.#prefix}${path}${search === '' ? '' : `?${search}`}`,
          headers: {
            accept: 'application/json',
            'user-agent': this.#fieldManager,
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
            ...(impersonate === undefined ? {} : { 'impersonate-user': impersonate }),
            ...(payload === undefined
              ? {}
              : { 'content-type': contentType, 'content-length': Buffer.byteLength(payload) }),
          },
          ...(options.signal === undefined ? {} : { signal: options.signal }),
        },
        (response) => {
          if (options.streamMs !== undefined) {
            clearTimeout(timer)
            timer = setTimeout(() => response.destroy(new Error('nothing heard in time')), options.streamMs)
          }
          response.once('close', () => clearTimeout(timer))
          const code = response.statusCode ?? 0
          if (code >= 200 && code < 300) return resolve(response)
          text(response).then(
            (answer) => reject(statusError(parsed(answer), code)),
            (error: unknown) => reject(unreachable(error)),
          )
        },
      )
      timer = setTimeout(
        () => request.destroy(new Error(`no answer in ${this.#timeoutMs} ms`)),
        this.#timeoutMs,
      )
      request.once('error', (error) => {
        clearTimeout(timer)
        reject(unreachable(error))
      })
      request.end(payload)
    })
  }
}

function selectors(options: ListOptions): Record<string, string> {
  return {
    ...(options.labelSelector === undefined ? {} : { labelSelector: options.labelSelector }),
    ...(options.fieldSelector === undefined ? {} : { fieldSelector: options.fieldSelector }),
  }
}

function unreachable(error: unknown): KubeError {
  if (error instanceof KubeError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new KubeError(0, 'Unreachable', `the Kubernetes API cannot be reached: ${message}`)
}

function parsed(answer: string): unknown {
  try {
    return JSON.parse(answer)
  } catch {
    return { message: answer.slice(0, 300) }
  }
}

function statusError(status: unknown, httpCode: number): KubeError {
  const { code, reason, message } = (status ?? {}) as { code?: number; reason?: string; message?: string }
  const number = code ?? httpCode
  return new KubeError(
    number,
    reason ?? (number === 410 ? 'Expired' : 'Unknown'),
    message ?? `HTTP ${number}`,
  )
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer)
  } catch (error) {
    throw unreachable(error)
  }
  return Buffer.concat(chunks).toString('utf8')
}

async function* lines(response: IncomingMessage): AsyncIterable<string> {
  let pending: Buffer[] = []
  for await (const chunk of response) {
    let rest = chunk as Buffer
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = Buffer.concat([...pending, rest.subarray(0, end)]).toString('utf8')
      pending = []
      rest = rest.subarray(end + 1)
      if (line.trim() !== '') yield line
    }
    if (rest.length > 0) pending.push(rest)
  }
}

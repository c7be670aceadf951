/**
 * HTTP for those who watch: /metrics for Prometheus, /livez and /readyz for the kubelet. It decides nothing: what alive and ready mean is
 * handed in. Answers are short and uncached; anything else is 404. No request body is read.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Health {
  readonly ok: boolean
  /** For people: why not, or in what state. */
  readonly message: string
}

export interface Watched {
  /** The text of /metrics. */
  metrics(): Promise<string>
  alive(): Health
  ready(): Health
}

const PROMETHEUS_TEXT = 'text/plain; version=0.0.4; charset=utf-8'
const PLAIN_TEXT = 'text/plain; charset=utf-8'
const HEADERS_MS_MAX = 10_000

export class WatchServer {
  readonly #watched: Watched
  #server: Server | undefined

  constructor(watched: Watched) {
    this.#watched = watched
  }

  /** Listens; rejects if it cannot. Gives the port (port 0 asks for any). */
  listen(port: number, host: string): Promise<number> {
    const server = createServer({ headersTimeout: HEADERS_MS_MAX }, (request, response) => {
      void this.#answer(request, response)
    })
    this.#server = server
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, host, () => {
        server.off('error', reject)
        resolve((server.address() as AddressInfo).port)
      })
    })
  }

  close(): void {
    this.#server?.close()
    this.#server?.closeAllConnections()
    this.#server = undefined
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const reply = (code: number, type: string, text: string): void => {
      response.writeHead(code, { 'content-type': type, 'cache-control': 'no-store' }).end(text)
    }
    const health = ({ ok, message }: Health): void => reply(ok ? 200 : 503, PLAIN_TEXT, message + '\n')
    if (request.method !== 'GET' && request.method !== 'HEAD') return reply(405, PLAIN_TEXT, 'only GET\n')
    switch (request.url?.split('?', 1)[0]) {
      case '/metrics':
        return reply(200, PROMETHEUS_TEXT, await this.#watched.metrics())
      case '/livez':
        return health(this.#watched.alive())
      case '/readyz':
        return health(this.#watched.ready())
      default:
        return reply(404, PLAIN_TEXT, 'not found\n')
    }
  }
}

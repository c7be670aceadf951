/**
 * How other commands speak to a running `up`: JSON over HTTP on control.sock in its folder. What needs the store speaks to the store.
 */
import { createServer, request } from 'node:http'
import type { IncomingMessage, Server } from 'node:http'
import { lockHolder } from './state-dir.ts'
import type { StateDir } from './state-dir.ts'

export interface UpStatus {
  readonly pid: number
  readonly state: string
  readonly processes: readonly { name: string; pid: number | undefined }[]
  readonly pods: readonly {
    key: string
    pid: number | undefined
    held: boolean
    ready: boolean
    restarts: number
  }[]
  readonly services: readonly { service: string; address: string; pod: string | undefined }[]
  /** With `peer`: between the two pairs alone. */
  readonly links: readonly {
    pair: string
    link: string
    relayed: boolean
    state: unknown
    peer?: string
  }[]
}

/** Requests by path; a thrown Error is answered with its message. */
export type Handlers = Readonly<Record<string, (body: Record<string, unknown>) => Promise<unknown>>>

export function controlServer(handlers: Handlers): Server {
  return createServer((message, response) => {
    const answer = (code: number, body: unknown): void => {
      response.writeHead(code, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body ?? {}))
    }
    const handler = handlers[message.url ?? '']
    if (handler === undefined) return answer(404, { message: `no ${message.url ?? ''}` })
    text(message)
      .then(async (body) => handler(body === '' ? {} : (JSON.parse(body) as Record<string, unknown>)))
      .then(
        (result) => answer(200, result),
        (error: unknown) => answer(400, { message: (error as Error).message }),
      )
  })
}

/** Asks the `up` of this folder; rejects with its sentence, or with one that says that none runs. */
export function control(dir: StateDir, path: string, body: unknown = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath: dir.controlSocket, path, method: 'POST', agent: false },
      (response) => {
        text(response).then((answer) => {
          const parsed = JSON.parse(answer) as { message?: string }
          if (response.statusCode === 200) resolve(parsed)
          else reject(new Error(parsed.message ?? answer))
        }, reject)
      },
    )
    call.once('error', (error: NodeJS.ErrnoException) => {
      const isAway = error.code === 'ENOENT' || error.code === 'ECONNREFUSED'
      reject(isAway ? new Error(notRunning(dir)) : error)
    })
    call.end(JSON.stringify(body))
  })
}

export function notRunning(dir: StateDir): string {
  const holder = lockHolder(dir)
  return holder === undefined
    ? `nothing runs in ${dir.path}; start it with \`tandem up -f FILES --state ${dir.path}\``
    : `\`tandem up\` (pid ${String(holder.pid)}) in ${dir.path} is starting or ending; try again`
}

async function text(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

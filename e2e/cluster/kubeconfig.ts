/**
 * The test cluster's own kubeconfigs (pki.sh writes them) and the few requests that DNS and the network plugin make with them.
 * Not a Kubernetes client: no watch, no retry, one document format.
 */
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { parse } from 'yaml'

interface Kubeconfig {
  clusters: { cluster: { server: string; 'certificate-authority-data': string } }[]
  users: { user: { 'client-certificate-data': string; 'client-key-data': string } }[]
}

export type Call = <T>(method: string, path: string, body?: unknown) => Promise<T>

/** A function that calls the API server with the first user of this file; a body is sent as a JSON merge patch. */
export function apiCaller(file: string): Call {
  const config = parse(readFileSync(file, 'utf8')) as Kubeconfig
  const cluster = config.clusters[0]!.cluster
  const user = config.users[0]!.user
  const agent = new Agent({
    keepAlive: true,
    ca: Buffer.from(cluster['certificate-authority-data'], 'base64'),
    cert: Buffer.from(user['client-certificate-data'], 'base64'),
    key: Buffer.from(user['client-key-data'], 'base64'),
  })
  return (method, path, body) =>
    new Promise((resolve, reject) => {
      const headers = body === undefined ? {} : { 'content-type': 'application/merge-patch+json' }
      const call = request(cluster.server + path, { method, agent, headers, timeout: 5000 }, (answer) => {
        let text = ''
        answer.setEncoding('utf8').on('data', (part: string) => (text += part))
        answer.on('end', () => {
          if ((answer.statusCode ?? 0) < 300) resolve(JSON.parse(text) as never)
          else reject(new Error(`${method} ${path}: ${answer.statusCode} ${text.slice(0, 200)}`))
        })
      })
      call.on('timeout', () => call.destroy(new Error(`${method} ${path}: no answer in 5 s`)))
      call.on('error', reject)
      call.end(body === undefined ? undefined : JSON.stringify(body))
    })
}

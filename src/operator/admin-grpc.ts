/** The administration service of a filer, over gRPC with mutual TLS. A filer that hangs is noticed by pings within seconds. */
import { Metadata, status as codes } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import type { FilerStatus } from '../api/v1alpha1/filer-config.ts'
import { clientCredentials } from '../edge/grpc/tls.ts'
import { AdministrationClient } from '../proto/gen/admin.ts'
import type { StatusReply } from '../proto/gen/admin.ts'
import type { AdminConnector } from './admin-client.ts'

const CALL_MS = 10_000
/** A snapshot is there with the next consistency point, a deletion may have much to free. */
const SNAPSHOT_MS = 60_000
const PING_EVERY_MS = 5000
const PING_ANSWER_MS = 5000

export const connectAdmin: AdminConnector = ({ address, uri, tls }) => {
  const material = { ca: tls.ca, certificate: tls.cert, key: tls.key }
  const client = new AdministrationClient(
    address,
    clientCredentials({ current: () => material }, (name) => name === uri),
    {
      'grpc.keepalive_time_ms': PING_EVERY_MS,
      'grpc.keepalive_timeout_ms': PING_ANSWER_MS,
      'grpc.enable_retries': 0,
      'grpc.enable_http_proxy': 0,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1000,
      // A name for TLS, which takes no address; whose certificate it is, its URI says.
      'grpc.ssl_target_name_override': 'tandem',
      'grpc.service_config_disable_resolution': 1,
    },
  )
  return {
    apply: (desired) =>
      new Promise((resolve, reject) => {
        client.apply(
          { desiredJson: JSON.stringify(desired) },
          new Metadata(),
          { deadline: Date.now() + CALL_MS },
          (error, reply) => (error ? reject(plain(error)) : resolve(reply.generation)),
        )
      }),
    snapshot: (request) =>
      new Promise((resolve, reject) => {
        client.snapshot(
          { requestJson: JSON.stringify(request) },
          new Metadata(),
          { deadline: Date.now() + SNAPSHOT_MS },
          (error, reply) => (error ? reject(plain(error)) : resolve(reply)),
        )
      }),
    watch: (onStatus, signal) =>
      new Promise((resolve, reject) => {
        const stream = client.watch({})
        const cancel = (): void => stream.cancel()
        signal.addEventListener('abort', cancel, { once: true })
        stream.on('data', ({ statusJson }: StatusReply) => onStatus(JSON.parse(statusJson) as FilerStatus))
        stream.on('error', (error: ServiceError) => {
          signal.removeEventListener('abort', cancel)
          if (signal.aborted) resolve()
          else reject(plain(error))
        })
        stream.on('end', () => {
          signal.removeEventListener('abort', cancel)
          resolve()
        })
      }),
    close: () => client.close(),
  }
}

function plain(error: ServiceError): Error {
  return new Error(`${codes[error.code]}: ${error.details}`)
}

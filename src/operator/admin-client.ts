/** What the operator needs of a filer's administration service. admin-grpc.ts implements it; tests have a filer of their own. */
import type { DesiredState, FilerStatus, SnapshotRequest } from '../api/v1alpha1/filer-config.ts'

export interface AdminClient {
  /** Gives the generation in force at the filer. */
  apply(desired: DesiredState): Promise<number>
  /** The filer's answer; rejects when it does not answer. Asking again with the same requestId changes nothing more. */
  snapshot(request: SnapshotRequest): Promise<SnapshotAnswer>
  /** Hands every status over until the signal, or rejects when the filer does not answer (any more). */
  watch(onStatus: (status: FilerStatus) => void, signal: AbortSignal): Promise<void>
  close(): void
}
export interface SnapshotAnswer {
  readonly accepted: boolean
  /** One word of proto/admin.proto, SnapshotReply. */
  readonly reason: string
  readonly message: string
}
export interface AdminTarget {
  /** `host:port` */
  readonly address: string
  /** URI in the certificate that the filer must show. */
  readonly uri: string
  /** PEM. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string }
}
export type AdminConnector = (target: AdminTarget) => AdminClient

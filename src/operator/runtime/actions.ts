/** What a plan may ask for. The executor (executor.ts) does it in order and stops at the first that fails. */
import type { DesiredState, SnapshotRequest } from '../../api/v1alpha1/filer-config.ts'
import type { KubeObject, Resource } from '../../edge/kube/api.ts'

export type Action =
  /** Server-side apply. `fresh`: not ours as far as is known; if an object of the name is there it is somebody else's, and stays untouched. */
  | {
      readonly type: 'apply'
      readonly resource: Resource
      readonly object: KubeObject
      readonly fresh: boolean
    }
  | { readonly type: 'create'; readonly resource: Resource; readonly object: KubeObject }
  | {
      readonly type: 'patch'
      readonly resource: Resource
      readonly namespace: string
      readonly name: string
      readonly patch: unknown
    }
  | {
      readonly type: 'delete'
      readonly resource: Resource
      readonly namespace: string
      readonly name: string
      readonly uid: string
    }
  | { readonly type: 'status'; readonly resource: Resource; readonly object: KubeObject }
  /** Makes the CA, or certificates of filers, anew. */
  | { readonly type: 'issue'; readonly authority: boolean; readonly filers: readonly string[] }
  | { readonly type: 'desired'; readonly filer: string; readonly desired: DesiredState }
  /** Asks a filer for it, without waiting for the answer: that comes with a later pass. */
  | { readonly type: 'snapshot'; readonly filer: string; readonly request: SnapshotRequest }
  | {
      readonly type: 'event'
      readonly about: KubeObject
      readonly level: 'Normal' | 'Warning'
      readonly reason: string
      readonly message: string
    }

/** Whether it changes anything in the API (Events aside). */
export function isWrite(action: Action): boolean {
  return action.type !== 'event' && action.type !== 'desired' && action.type !== 'snapshot'
}

export interface Plan {
  readonly actions: readonly Action[]
  /** Look again after so long, even if nothing happens. */
  readonly againInMs: number | undefined
  /** Holds: the pair's pods are being replaced, no other pair's are meanwhile. Waits: another pair's are. */
  readonly update?: 'Holds' | 'Waits'
  /** The desired state that the filers have when the plan is done: its generation, mirrors (ids) that are `Removed` in it, and conversions. */
  readonly told?: {
    readonly generation: number
    readonly removed: readonly string[]
    readonly conversions: readonly string[]
  }
}

/** Everything that a plan for the mirrors and conversions of a namespace is made from. */
import type { FilerPairSpec } from '../api/v1alpha1/filer-pair.ts'
import type { KubeObject } from '../edge/kube/api.ts'
import type { PairView } from './filer-pair/view.ts'
import type { Plan } from './runtime/actions.ts'

export interface PairObserved {
  readonly spec: FilerPairSpec | undefined
  readonly view: PairView
  /** What was last handed over. */
  readonly told: Plan['told']
}
export interface NamespaceObserved {
  readonly mirrors: readonly KubeObject[]
  readonly conversions: readonly KubeObject[]
  readonly volumes: readonly KubeObject[]
  /** undefined: there is no such FilerPair. */
  pair(name: string): PairObserved | undefined
  readonly namespaceTerminating: boolean
  readonly nowMs: number
  statusWrittenMs(uid: string): number
}

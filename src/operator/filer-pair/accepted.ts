/** A pair as far as its objects depend on it. */
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'

/** A pair with an accepted spec. */
export interface AcceptedPair {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly spec: FilerPairSpec
}

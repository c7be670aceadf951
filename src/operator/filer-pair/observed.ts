/** Everything that a plan for one pair is made from: what the API has and what the filers said. */
import type { FilerStatus } from '../../api/v1alpha1/filer-config.ts'
import type { KubeObject, Resource } from '../../edge/kube/api.ts'
import type { ConversionAtPair } from '../conversion/desired.ts'
import type { MirrorAtPair, PeerPair } from '../mirror/desired.ts'
import type { SnapshotOutcomes } from '../filer-volume/snapshot-request.ts'

export interface UpdateTurn {
  readonly mine: boolean
  /** `namespace/name` */
  readonly other: string | undefined
}

export interface FilerReport {
  /** Last status, while the filer answers. */
  readonly status: FilerStatus | undefined
  /** How long it has not answered although its pod runs. */
  readonly silentMs: number
  readonly silentReason: string
}

/** Objects in the pair's namespace that carry its label, whoever made them. */
export interface Objects {
  get(resource: Resource, name: string): KubeObject | undefined
  of(resource: Resource): readonly KubeObject[]
}

export interface Observed {
  readonly namespace: string
  readonly name: string
  readonly pair: KubeObject | undefined
  /** FilerVolumes that name the pair (or did when they were accepted). */
  readonly volumes: readonly KubeObject[]
  readonly objects: Objects
  /** The Lease of the pair's name, whoever made it. */
  readonly lease: KubeObject | undefined
  /** Kind and name of objects that the pair needs and that are somebody else's. */
  readonly foreign: readonly string[]
  readonly reports: ReadonlyMap<string, FilerReport>
  readonly certificatesDue: { readonly authority: boolean; readonly filers: readonly string[] }
  /** Names, and when their volumes are bound; undefined where the API has no such kind or does not tell. */
  readonly storageClasses: ReadonlyMap<string, 'Immediate' | 'WaitForFirstConsumer'> | undefined
  /** Those that stand for volumes of the pair, as far as they were asked for, by name. `Forbidden`: the operator may not. */
  readonly persistentVolumes: ReadonlyMap<string, KubeObject | 'Forbidden'>
  readonly snapshotOutcomes: SnapshotOutcomes
  /** The version of PodDisruptionBudget that the server has. */
  readonly budgets: Resource | undefined
  /** Image of the operator. */
  readonly image: string
  /** Of the node in question when a loss is to be accepted; undefined: not asked, or the API does not tell. */
  readonly nodeReady: boolean | undefined
  /** One pair at a time is updated: whether it is this one, else which other one. */
  readonly updateTurn: UpdateTurn
  readonly namespaceTerminating: boolean
  /** Mirrors in force that have an end here, and what the filers must know of the other pairs. */
  readonly mirrors: readonly MirrorAtPair[]
  readonly peerPair: (name: string) => PeerPair | undefined
  /** Conversions in force of volumes of the pair. */
  readonly conversions: readonly ConversionAtPair[]
  readonly nowMs: number
  /** When the status of an object (by uid) was last written by this process. */
  statusWrittenMs(uid: string): number
}

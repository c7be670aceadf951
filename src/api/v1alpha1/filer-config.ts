/**
 * What the operator hands to a filer.
 *
 * `FilerPodConfig` is static: it is the value of the environment variable TANDEM_FILER_CONFIG in the pod template (JSON), so a
 * pod comes back without the operator; changing it needs a new pod. `DesiredState` is dynamic: it goes over the administration
 * service (proto/admin.proto, field `desired_json`) to both filers and is stored by the owner in the aggregate.
 *
 * Paths in a pod; embedded mode puts `--root DIR` in front of each:
 *   /var/lib/tandem/log                         log volume: both logs, mailbox, lock, addresses
 *   /var/lib/tandem/devices/<aggregate>-<set>-<n>  one device: the directory of a Filesystem PVC (file `device` in it), or the block device itself
 *   /etc/tandem/tls/{ca.crt,tls.crt,tls.key}    identity
 */
export interface DeviceSetConfig {
  name: string
  count: number
  sizeBytes: number
  volumeMode: 'Filesystem' | 'Block'
}

export interface AggregateConfig {
  name: string
  /** Home filer: the side to which the aggregate belongs. */
  filer: string
  deviceSets: DeviceSetConfig[]
}

export interface FilerPodConfig {
  namespace: string
  pair: string
  /** metadata.uid of the FilerPair (status.id): names the copies; devices of another id are refused. */
  pairUid: string
  filer: string
  partner: string
  /** Interface names; `default` is the pod network. */
  interconnects: { name: string }[]
  /** Aggregates of both sides: every filer keeps a plex of each. */
  aggregates: AggregateConfig[]
  log: { sizeBytes: number; durability: 'Disk' | 'Memory' }
  cacheBytes: number
  /** Names of the objects that a filer may touch. */
  lease: string
  /** Service by side. */
  services: Record<string, string>
  /** Pod by filer. */
  pods: Record<string, string>
}

export interface VolumeDesired {
  /** metadata.uid of the FilerVolume (or the id it adopts): names the volume for ever. */
  id: string
  /** Name of the FilerVolume. */
  name: string
  type: 'Flexible'
  aggregate: string
  sizeBytes: number
  export: {
    path: string
    rules: { clients: string[]; access: 'ReadWrite' | 'ReadOnly'; squash: 'None' | 'Root' | 'All' }[]
  }
  /** Remove: free the volume's data. */
  state: 'Present' | 'Removed'
}

export interface DesiredState {
  /** Grows with every change, per pair object; a filer ignores an older one. */
  generation: number
  volumes: VolumeDesired[]
  takeover: {
    mode: 'Automatic' | 'Manual'
    giveback: 'Automatic' | 'Manual'
    givebackDelayMs: number
    givebackEpoch: number
  }
}

export type PlexState = 'Current' | 'Resyncing' | 'OutOfDate' | 'Missing' | 'Damaged'

/** Answer of the administration service's Status and Watch (field `status_json`). */
export interface FilerStatus {
  filer: string
  incarnation: number
  /** Sides as this filer knows them. */
  sides: {
    side: string
    epoch: number
    owner: string
    mirrored: boolean
    role: 'Owner' | 'Standby'
    /** Owner and answering clients. */
    serving: boolean
    takeoverPossible: boolean
    /** Reason word and sentence when it is not, or when the side is not served. */
    reason: string
    message: string
    resyncPercent: number | null
  }[]
  interconnects: {
    name: string
    state: 'Up' | 'Slow' | 'Down'
    roundTripMicroseconds: number
    addresses: string[]
  }[]
  aggregates: {
    name: string
    id: string
    sizeBytes: number
    usedBytes: number
    plexes: { filer: string; state: PlexState }[]
  }[]
  volumes: {
    id: string
    name: string
    aggregate: string
    side: string
    sizeBytes: number
    usedBytes: number
    state: 'Ready' | 'Creating' | 'Failed' | 'Removed'
    reason: string
    message: string
  }[]
  lastTakeover: {
    side: string
    filer: string
    reason: string
    time: string
    clientPauseMilliseconds: number
  } | null
  /** Generation of the desired state in force. */
  generation: number
  voteReachable: boolean
}

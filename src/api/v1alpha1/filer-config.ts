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
  /** Of the devices of a traditional volume: `vol-<name of the volume>`, which no aggregate of a pair can be called. */
  name: string
  /** Home filer: the side to which the aggregate belongs. */
  filer: string
  /** Traditional: the devices belong to one traditional volume alone. */
  type?: 'Traditional'
  /** May grow: counts are raised, sets appended. What the image does not know yet joins it when both filers have it. */
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
  type: 'Flexible' | 'Traditional'
  /** Of a traditional volume `vol-<name>`; its size is then that of its devices, and `sizeBytes` 0. */
  aggregate: string
  sizeBytes: number
  export: {
    path: string
    rules: { clients: string[]; access: 'ReadWrite' | 'ReadOnly'; squash: 'None' | 'Root' | 'All' }[]
  }
  /** Snapshots that the serving filer makes and deletes by itself; absent: none. */
  snapshotSchedules?: SnapshotSchedule[]
  /** Remove: free the volume's data. */
  state: 'Present' | 'Removed'
}

export interface SnapshotSchedule {
  /** Its snapshots are called `<name>.<UTC time, yyyy-mm-ddThhmmZ>`. */
  name: string
  /** Minute, hour, day of the month, month, day of the week, in UTC. */
  cron: string
  /** How many of the schedule's snapshots stay; older ones are deleted. */
  keep: number
}

/** One order about a snapshot (administration service, Snapshot); `request_json`. Repeating one changes nothing more. */
export interface SnapshotRequest {
  volumeId: string
  /** Restore: the volume's files become what they are in the snapshot; later snapshots stay. */
  op: 'Create' | 'Delete' | 'Restore'
  /** ^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$ */
  snapshot: string
  /** Names the order, so that a repeated Create or Restore is known. */
  requestId: string
}

export interface SnapshotStatus {
  name: string
  /** RFC 3339. */
  created: string
  /** What only this snapshot holds, and its deletion would give back. */
  usedBytes: number
}

/** Another pair with which this one has mirrors. Either refuses the other until both list each other. */
export interface PeerDesired {
  /** Names the pair here; unlike others in the list. */
  name: string
  /** As in the certificates of its filers, tandem://<namespace>/<pair>/<filer>. */
  namespace: string
  pair: string
  /** PEM of the authorities from which these certificates come; may be renewed. */
  ca: string
  /** Both, with `host:port` by interconnect. Interconnects that both pairs have by the same name are used. */
  filers: { name: string; addresses: Record<string, string> }[]
}

/** A mirror of which this pair has one end. */
export interface MirrorDesired {
  /** metadata.uid of the Mirror: the same at both ends, in both directions, for ever. */
  id: string
  /** Of this pair, as the spec says now: a swap changes it at both. */
  role: 'Source' | 'Destination'
  /** Of the volume at this end, which is in `volumes` too. A destination was never written when the mirror begins. */
  volumeId: string
  /** `<PeerDesired.name>/<filer>` of both filers of the other pair. */
  peers: string[]
  /** Broken: the destination is a volume of its own. Removed: broken, and forgotten at both ends. One that is left out stays as it is. */
  state: 'Mirrored' | 'Broken' | 'Removed'
  policy?: 'Relaxed' | 'Strict'
  logFilesMax?: number
  /** The divergence that may be overwritten. */
  discardChanges?: string
}

/** A traditional volume that becomes a flexible one. Left out: undone before the cut-over; later it runs on. */
export interface ConversionDesired {
  /** metadata.uid of the Conversion. */
  id: string
  /** The flexible volume has the same. */
  volumeId: string
  /** Empty, of the same filer. */
  aggregate: string
  state: 'Checked' | 'Paused' | 'Converted' | 'RolledBack'
  /** Absent: RequireNone. */
  snapshots?: 'RequireNone' | 'Delete'
  scanBlocksPerSecond: number
  /** The cut-over whose changes a rollback may drop; empty: none. */
  discardChanges: string
}

export interface DesiredState {
  /** Grows with every change, per pair object; a filer ignores an older one. */
  generation: number
  /** Stopped: what is served is written to both copies, then nobody serves, takes over or hands over. Absent: Running. */
  state?: 'Running' | 'Stopped'
  /** Absent: Leased. */
  reads?: 'Leased' | 'Confirmed'
  /** The filer that is to serve nothing while its partner can. */
  maintenance?: { filer: string }
  /** The filer named takes each side whose record has exactly the epoch given, however old its copy is. */
  acceptLoss?: { filer: string; sides: Record<string, number>; otherCopy: 'Kept' | 'Discarded' }
  volumes: VolumeDesired[]
  peers?: PeerDesired[]
  mirrors?: MirrorDesired[]
  conversions?: ConversionDesired[]
  takeover: {
    mode: 'Automatic' | 'Manual'
    giveback: 'Automatic' | 'Manual'
    givebackDelayMs: number
    givebackEpoch: number
  }
}

export type PlexState = 'Current' | 'Resyncing' | 'OutOfDate' | 'Missing' | 'Damaged'

export interface PeerStatus {
  /** `<PeerDesired.name>/<filer>` */
  name: string
  /** Messages of mirrors can be sent and received. */
  state: 'Up' | 'Down'
  /**
   * One word when it is Down. NotListed: that pair refuses this one. NotTrusted: what answers there is not that filer, or not of its authority. NoCommonInterconnect, InvalidPeer:
   * what was handed over cannot be used. Unreachable: all else.
   */
  reason: '' | 'NotListed' | 'NotTrusted' | 'NoCommonInterconnect' | 'InvalidPeer' | 'Unreachable'
  message: string
}

/** Of an end that the filer serves. */
export interface MirrorReport {
  id: string
  /** What it is, which may not be what is wanted yet. */
  role: 'Source' | 'Destination'
  volumeId: string
  state: 'Baseline' | 'CatchUp' | 'Joining' | 'InSync' | 'OutOfSync' | 'Reversing' | 'Breaking' | 'Broken'
  /** A reason of the conditions of Mirror, or empty. */
  reason: string
  message: string
  connected: boolean
  /** Of a source: how old the oldest change is that the destination lacks; 0 in sync. */
  lagSeconds: number
  lagBytes: number
  /** Of a source, while it is Baseline. */
  baselinePercent?: number
  logFiles: number
  logFilesMax: number
  /** Newest image that the destination will have after any loss; 0: none. */
  durableImage: number
  /** Records that the destination has not acknowledged. */
  unacknowledged: number
  /** What only this end has, and a resync would overwrite. */
  divergence?: { id: string; bytes: number; sinceSeconds: number }
  brokenSinceSeconds?: number
  /** When a destination last heard of its source. */
  heardSeconds?: number
}

export interface ConversionReport {
  id: string
  volumeId: string
  aggregate: string
  phase:
    | 'Checking'
    | 'Refused'
    | 'Checked'
    | 'CuttingOver'
    | 'Scanning'
    | 'Paused'
    | 'Joining'
    | 'Complete'
    | 'RollingBack'
    | 'RolledBack'
  /** Of the scan. */
  percent: number
  inodesDone: number
  inodesTotal: number
  metadataEstimatedBytes: number
  metadataActualBytes: number
  dataBlocksCopied: number
  /** Blocks of metadata that are still to be built, at most. */
  absentLeft: number
  rollback: { possible: boolean; changedBytes: number }
  /** Empty before the cut-over. */
  cutOverId: string
  /** With the reasons of the conditions of Conversion. */
  conditions: readonly {
    type: 'Checked' | 'CutOver' | 'Complete' | 'RolledBack'
    status: 'True' | 'False' | 'Unknown'
    reason: string
    message: string
  }[]
}

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
    /** Why `acceptLoss` is not carried out; empty if it is or nobody asked. */
    lossRefused?: string
    /** The copy here is out of date: what was acknowledged after this second may not be in it. */
    dataFromSeconds?: number
    /** What is served here by `acceptLoss`, until both copies are equal again. */
    lossAccepted?: { epoch: number; dataFromSeconds: number }
  }[]
  interconnects: {
    name: string
    state: 'Up' | 'Slow' | 'Down'
    roundTripMicroseconds: number
    addresses: string[]
    /** Down because one of the two filers would not have the other: why, and what it found. */
    reason?: 'VersionMismatch' | 'WrongPeer' | 'CertificateRefused'
    message?: string
  }[]
  aggregates: {
    name: string
    id: string
    sizeBytes: number
    usedBytes: number
    plexes: { filer: string; state: PlexState }[]
    /** Devices of the image, `<aggregate>-<set>-<n>`, as the filer that serves the side knows them; empty at the other one. */
    devices: string[]
    /** Devices that are configured and do not belong to the image yet, and why; empty when there are none, and at the filer that does not serve the side. */
    waitingDevices: { name: string; reason: string }[]
    /** Blocks that neither plex has as they should be, as far as the filer that serves the side knows; counted up to 100. Absent if it knows of none. */
    unrepairableBlocks?: number
  }[]
  volumes: {
    id: string
    name: string
    aggregate: string
    side: string
    type: 'Flexible' | 'Traditional'
    sizeBytes: number
    /** Of its files; without what only snapshots hold. */
    usedBytes: number
    snapshotUsedBytes: number
    snapshots: SnapshotStatus[]
    /** Of those of its aggregate (see there), the ones that the volume's files or snapshots have. */
    unrepairableBlocks?: number
    /** Retained: no FilerVolume asks for it; its data stays and can be adopted. */
    state: 'Ready' | 'Creating' | 'Failed' | 'Removed' | 'Retained'
    reason: string
    message: string
  }[]
  /** Filers of other pairs, as `peers` of the desired state lists them. */
  peers?: PeerStatus[]
  /** Ends of mirrors that this filer serves. */
  mirrors?: MirrorReport[]
  /** Of volumes that this filer serves. */
  conversions?: ConversionReport[]
  lastTakeover: {
    side: string
    filer: string
    reason: string
    time: string
    /** Absent until a client was answered. */
    clientPauseMilliseconds?: number
  } | null
  /** Generation of the desired state in force. */
  generation: number
  /** DONE: `state: Stopped` is reached here, and the process may end. */
  resting?: 'NO' | 'FLUSHING' | 'DONE'
  voteReachable: boolean
}

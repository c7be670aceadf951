/** Names, labels and annotations of everything that belongs to a pair. A name is never parsed; labels say what an object is. */
export const LABEL_PAIR = 'tandem.storage/pair'
export const LABEL_FILER = 'tandem.storage/filer'
export const LABEL_PAIR_ID = 'tandem.storage/pair-id'
/** On claims that belong to one volume: its name and its id. */
export const LABEL_VOLUME = 'tandem.storage/volume'
export const LABEL_VOLUME_ID = 'tandem.storage/volume-id'
/** On the device claims of a traditional volume: home and device sets, JSON, so that it can be served when its object is gone. */
export const ANNOTATION_DEVICES = 'tandem.storage/devices'
/** On a FilerVolume: an order about a snapshot, JSON {id, op, snapshot}. */
export const ANNOTATION_SNAPSHOT_REQUEST = 'tandem.storage/snapshot-request'
export const FINALIZER = 'tandem.storage/operator'
/** Keeps the Lease while the pair lives: it is the third voter's memory. */
export const LEASE_FINALIZER = 'tandem.storage/vote'
/** Last accepted spec with the uid of its object, JSON. */
export const ANNOTATION_ACCEPTED = 'tandem.storage/accepted'
/** What `spec.acceptLoss` led to, JSON {filer, epoch, sides}: epochs of sides, decided once. */
export const ANNOTATION_ACCEPT_LOSS = 'tandem.storage/accept-loss'
/** `<generation> <hash>` of the desired state last handed to the filers. */
export const ANNOTATION_DESIRED = 'tandem.storage/desired'
/** Hash of the configuration that was applied, so that fields that are gone from it are noticed. */
export const ANNOTATION_APPLIED = 'tandem.storage/applied'
/** Hash of a pod's template. */
export const ANNOTATION_TEMPLATE = 'tandem.storage/template'
export const ANNOTATION_NETWORKS = 'k8s.v1.cni.cncf.io/networks'
/** On a Service: `host:port` that clients use instead of its cluster address (embedded mode). */
export const ANNOTATION_ADDRESS = 'tandem.storage/embedded-address'

export const PORTS = { nfs: 2049, interconnect: 7400, administration: 7401, metrics: 9400 } as const
export const USER = 64000

/** Names of the objects of one pair. */
export function namesOf(pair: string) {
  return {
    lease: pair,
    budget: pair,
    headlessService: `${pair}-filer-pods`,
    authority: `${pair}-ca`,
    service: (filer: string) => `${pair}-${filer}`,
    statefulSet: (filer: string) => `${pair}-${filer}`,
    pod: (filer: string) => `${pair}-${filer}-0`,
    account: (filer: string) => `${pair}-${filer}`,
    tls: (filer: string) => `${pair}-${filer}-tls`,
    logClaim: (filer: string) => `${pair}-${filer}-log`,
    aggregateClaim: (filer: string, device: string) => `${pair}-${filer}-aggr-${device}`,
    /** Devices of a traditional volume are called `vol-…` already. */
    volumeClaim: (filer: string, device: string) => `${pair}-${filer}-${device}`,
  }
}

/** What the devices of a traditional volume are called as an aggregate. */
export function traditionalAggregate(volume: string): string {
  return `vol-${volume}`
}

/** The PersistentVolume that stands for a FilerVolume with a claim. */
export function persistentVolumeName(volumeUid: string): string {
  return `tandem-${volumeUid}`
}

/** As in the path of the device within the pod. */
export function deviceName(aggregate: string, set: string, index: number): string {
  return `${aggregate}-${set}-${index}`
}

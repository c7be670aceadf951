/**
 * The claim of a FilerVolume (spec.claimName): a PersistentVolume that mounts it over NFS, and a ReadWriteMany claim that is bound to it,
 * for pods that know nothing of Tandem. Pure.
 *
 * Invariants: what is not the volume's is not touched; neither object holds data, so both go with the volume whatever is retained. The
 * PersistentVolume goes before the claim, so that a crash between the two leaves the claim, by which the rest is found again. What binds
 * them is the cluster's own controller.
 */
import type { FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import { formatBytes } from '../../api/quantity.ts'
import type { KubeObject, Resource } from '../../edge/kube/api.ts'
import { CLAIMS, PERSISTENT_VOLUMES, apiVersionOf } from '../../edge/kube/resources.ts'
import { labelsOf } from '../filer-pair/objects.ts'
import type { AcceptedPair } from '../filer-pair/accepted.ts'
import type { Observed } from '../filer-pair/observed.ts'
import { LABEL_FILER, LABEL_VOLUME, LABEL_VOLUME_ID, persistentVolumeName } from '../names.ts'
import type { Action } from '../runtime/actions.ts'
import { isApplied, stamped } from '../runtime/compare.ts'
import { fails, holds } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import type { VolumeInForce } from './accept.ts'

export interface ClaimPlan {
  readonly verdict: Verdict
  readonly actions: Action[]
  /** Something that no watch tells is on its way. */
  readonly againInMs: number | undefined
}

/** Nobody watches PersistentVolumes: that would need the right to list everybody's. */
const AGAIN_MS = 1000

/** Claims of a volume that pods of users mount, not those of its devices. */
export function mountClaims(observed: Pick<Observed, 'objects'>, volumeId: string): KubeObject[] {
  return observed.objects
    .of(CLAIMS)
    .filter(
      ({ metadata: { labels } }) =>
        labels?.[LABEL_VOLUME_ID] === volumeId && labels[LABEL_FILER] === undefined,
    )
}

export function planClaim(
  observed: Observed,
  pair: AcceptedPair,
  { object, acceptance, id }: VolumeInForce,
  mount: FilerVolumeStatus['mount'],
  sizeBytes: number | undefined,
): ClaimPlan {
  const claimName = acceptance.spec?.claimName
  const there = mountClaims(observed, id)
  const volume = observed.persistentVolumes.get(persistentVolumeName(object.metadata.uid ?? ''))
  if (claimName === undefined) {
    const verdict = holds('NoClaim', 'spec.claimName is not given, so there is no claim')
    const actions = endClaim(observed, object, id)
    return { verdict, actions, againInMs: undefined }
  }
  const wait = (message: string, actions: Action[] = [], againInMs: number | undefined = AGAIN_MS) => ({
    verdict: fails('Binding', message),
    actions,
    againInMs,
  })
  if (volume === 'Forbidden')
    return {
      verdict: fails(
        'NotAllowed',
        'spec.claimName: the operator may not handle PersistentVolumes, for it is installed for some namespaces only; make the PersistentVolume from status.mount by hand, or take claimName out',
      ),
      actions: [],
      againInMs: undefined,
    }
  const taken = observed.objects.get(CLAIMS, claimName)
  const isTaken = taken !== undefined && !there.includes(taken)
  if (isTaken || observed.foreign.includes(`${CLAIMS.kind} ${claimName}`)) {
    const verdict = fails(
      'NameTaken',
      `spec.claimName: a claim ${claimName} is there already, is not this volume’s, and is not touched; choose another name`,
    )
    // Asked for again, so that it is noticed when the other one goes.
    const again = isTaken || mount === undefined || sizeBytes === undefined ? [] : claimActions()
    return { verdict, actions: again, againInMs: undefined }
  }
  if (mount === undefined || sizeBytes === undefined)
    return wait('the volume has no address or size yet', [], undefined)
  const claim = there.find((c) => c.metadata.name === claimName)
  if (volume !== undefined && volume.metadata.deletionTimestamp !== undefined)
    return wait(`PersistentVolume ${volume.metadata.name} is being deleted, and made anew when it is gone`)
  const wanted = stamped(persistentVolume(pair, object, id, claimName, mount, sizeBytes))
  if (volume !== undefined) {
    const outdated = !isApplied(source(wanted), source(volume))
    if (outdated && claim !== undefined)
      return {
        verdict: fails(
          'Outdated',
          `claim ${claimName} mounts what the volume was exported as before, and that cannot be changed; delete it when no pod uses it, and it is made anew`,
        ),
        actions: [],
        againInMs: undefined,
      }
    // A claim that is gone leaves its volume bound to the past, which may show only when the next claim is there already.
    const phase = (volume['status'] as { phase?: string } | undefined)?.phase
    if (phase === 'Released' || phase === 'Failed' || (claim === undefined && outdated))
      return wait('the PersistentVolume is made anew', [remove(PERSISTENT_VOLUMES, '', volume)])
  }
  const actions: Action[] = []
  if (volume === undefined)
    actions.push({ type: 'apply', resource: PERSISTENT_VOLUMES, object: wanted, fresh: true })
  else if (!isApplied(wanted, volume))
    actions.push({ type: 'apply', resource: PERSISTENT_VOLUMES, object: wanted, fresh: false })
  if (claim?.metadata.deletionTimestamp !== undefined)
    return wait(`claim ${claimName} is being deleted, and made anew when no pod uses it`, actions)
  if (claim === undefined) return wait('the claim is being made', [...actions, ...claimActions()])
  const phase = (claim['status'] as { phase?: string } | undefined)?.phase
  if (phase !== 'Bound')
    return wait(`claim ${claimName} is ${phase ?? 'Pending'}; the cluster’s controller binds it`, actions)
  const verdict = holds('Claimed', `claim ${claimName} is bound to the volume`)
  return { verdict, actions, againInMs: undefined }

  function claimActions(): Action[] {
    const made = userClaim(pair, object, id, claimName!, sizeBytes!)
    return [{ type: 'apply', resource: CLAIMS, object: made, fresh: true }]
  }
}

/** The volume goes, or wants no claim any more. */
export function endClaim(observed: Observed, object: KubeObject, id: string): Action[] {
  const volume = observed.persistentVolumes.get(persistentVolumeName(object.metadata.uid ?? ''))
  const isOurs =
    volume !== undefined && volume !== 'Forbidden' && volume.metadata.labels?.[LABEL_VOLUME_ID] === id
  return [
    ...(isOurs && volume.metadata.deletionTimestamp === undefined
      ? [remove(PERSISTENT_VOLUMES, '', volume)]
      : []),
    ...mountClaims(observed, id)
      .filter((c) => c.metadata.deletionTimestamp === undefined)
      .map((c) => remove(CLAIMS, observed.namespace, c)),
  ]
}

function remove(resource: Resource, namespace: string, { metadata }: KubeObject): Action {
  return { type: 'delete', resource, namespace, name: metadata.name, uid: metadata.uid ?? '' }
}

/** What cannot be changed of a PersistentVolume. */
function source(volume: KubeObject): unknown {
  return (volume['spec'] as { nfs?: unknown } | undefined)?.nfs
}

function marks(pair: AcceptedPair, object: KubeObject, id: string): Record<string, string> {
  // A label has 63 characters, a name may have more.
  return { ...labelsOf(pair), [LABEL_VOLUME]: object.metadata.name.slice(0, 63), [LABEL_VOLUME_ID]: id }
}

function persistentVolume(
  pair: AcceptedPair,
  object: KubeObject,
  id: string,
  claimName: string,
  mount: NonNullable<FilerVolumeStatus['mount']>,
  sizeBytes: number,
): KubeObject {
  return {
    apiVersion: apiVersionOf(PERSISTENT_VOLUMES),
    kind: PERSISTENT_VOLUMES.kind,
    metadata: {
      name: persistentVolumeName(object.metadata.uid ?? ''),
      labels: marks(pair, object, id),
    },
    spec: {
      accessModes: ['ReadWriteMany'],
      capacity: { storage: formatBytes(sizeBytes) },
      claimRef: { apiVersion: 'v1', kind: CLAIMS.kind, namespace: pair.namespace, name: claimName },
      mountOptions: mount.options.split(','),
      nfs: { server: mount.server, path: mount.path },
      persistentVolumeReclaimPolicy: 'Retain',
      volumeMode: 'Filesystem',
    },
  }
}

function userClaim(
  pair: AcceptedPair,
  object: KubeObject,
  id: string,
  claimName: string,
  sizeBytes: number,
): KubeObject {
  return {
    apiVersion: apiVersionOf(CLAIMS),
    kind: CLAIMS.kind,
    metadata: { name: claimName, namespace: pair.namespace, labels: marks(pair, object, id) },
    spec: {
      accessModes: ['ReadWriteMany'],
      // Named, so that no default class makes a volume for it.
      storageClassName: '',
      volumeMode: 'Filesystem',
      volumeName: persistentVolumeName(object.metadata.uid ?? ''),
      resources: { requests: { storage: formatBytes(sizeBytes) } },
    },
  }
}

/**
 * The end of a pair that has no volume left. Filers stop first; then what they used goes; the claims, and with them the Lease, the
 * third voter's memory, only if the reclaim policy says so. The finalizer goes last.
 */
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import type { KubeObject, Resource } from '../../edge/kube/api.ts'
import {
  CLAIMS,
  FILER_PAIRS,
  LEASES,
  PODS,
  ROLES,
  ROLE_BINDINGS,
  SECRETS,
  SERVICES,
  SERVICE_ACCOUNTS,
  STATEFUL_SETS,
} from '../../edge/kube/resources.ts'
import { FINALIZER, LABEL_PAIR_ID, LEASE_FINALIZER } from '../names.ts'
import type { Action } from '../runtime/actions.ts'
import { pairId } from './accepted.ts'
import type { Observed } from './observed.ts'

export function planEnd(observed: Observed, pair: KubeObject, spec: FilerPairSpec | undefined): Action[] {
  const id = pairId(pair.metadata.uid ?? '', spec)
  if (!pair.metadata.finalizers?.includes(FINALIZER)) return []
  const ours = (resource: Resource): KubeObject[] =>
    observed.objects.of(resource).filter((o) => o.metadata.labels?.[LABEL_PAIR_ID] === id)
  const remove = (resource: Resource): Action[] =>
    ours(resource)
      .filter((o) => o.metadata.deletionTimestamp === undefined)
      .map((o) => ({
        type: 'delete',
        resource,
        namespace: observed.namespace,
        name: o.metadata.name,
        uid: o.metadata.uid ?? '',
      }))
  const stopping = remove(STATEFUL_SETS)
  if (stopping.length > 0 || ours(PODS).length > 0) return stopping
  const forget = spec?.reclaimPolicy === 'Delete'
  return [
    ...[SERVICES, SECRETS, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS].flatMap(remove),
    ...(observed.budgets === undefined ? [] : remove(observed.budgets)),
    ...(forget ? remove(CLAIMS) : []),
    ...endLease(observed, id, forget),
    {
      type: 'patch',
      resource: FILER_PAIRS,
      namespace: observed.namespace,
      name: observed.name,
      patch: {
        metadata: {
          resourceVersion: pair.metadata.resourceVersion,
          finalizers: pair.metadata.finalizers.filter((f) => f !== FINALIZER),
        },
      },
    },
  ]
}

function endLease(observed: Observed, id: string, forget: boolean): Action[] {
  const { lease } = observed
  if (lease === undefined || lease.metadata.labels?.[LABEL_PAIR_ID] !== id) return []
  const { name, uid, finalizers = [], resourceVersion } = lease.metadata
  const rest = finalizers.filter((f) => f !== LEASE_FINALIZER)
  const actions: Action[] = []
  if (rest.length < finalizers.length)
    actions.push({
      type: 'patch',
      resource: LEASES,
      namespace: observed.namespace,
      name,
      patch: { metadata: { resourceVersion, finalizers: rest } },
    })
  if (forget && lease.metadata.deletionTimestamp === undefined)
    actions.push({ type: 'delete', resource: LEASES, namespace: observed.namespace, name, uid: uid ?? '' })
  return actions
}

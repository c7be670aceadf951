/** The collections of the Kubernetes API that this project touches. */
import { conversion } from '../../api/v1alpha1/conversion.ts'
import { filerPair } from '../../api/v1alpha1/filer-pair.ts'
import { filerVolume } from '../../api/v1alpha1/filer-volume.ts'
import { mirror } from '../../api/v1alpha1/mirror.ts'
import type { KubeObject, Resource } from './api.ts'

const namespaced = (group: string, version: string, plural: string, kind: string): Resource => ({
  group,
  version,
  plural,
  kind,
  namespaced: true,
})

export const FILER_PAIRS = namespaced(filerPair.group, filerPair.version, filerPair.plural, filerPair.kind)
export const FILER_VOLUMES = namespaced(
  filerVolume.group,
  filerVolume.version,
  filerVolume.plural,
  filerVolume.kind,
)
export const MIRRORS = namespaced(mirror.group, mirror.version, mirror.plural, mirror.kind)
export const CONVERSIONS = namespaced(
  conversion.group,
  conversion.version,
  conversion.plural,
  conversion.kind,
)
export const PODS = namespaced('', 'v1', 'pods', 'Pod')
export const SERVICES = namespaced('', 'v1', 'services', 'Service')
export const SECRETS = namespaced('', 'v1', 'secrets', 'Secret')
export const EVENTS = namespaced('', 'v1', 'events', 'Event')
export const CLAIMS = namespaced('', 'v1', 'persistentvolumeclaims', 'PersistentVolumeClaim')
export const SERVICE_ACCOUNTS = namespaced('', 'v1', 'serviceaccounts', 'ServiceAccount')
export const STATEFUL_SETS = namespaced('apps', 'v1', 'statefulsets', 'StatefulSet')
export const LEASES = namespaced('coordination.k8s.io', 'v1', 'leases', 'Lease')
export const ROLES = namespaced('rbac.authorization.k8s.io', 'v1', 'roles', 'Role')
export const ROLE_BINDINGS = namespaced('rbac.authorization.k8s.io', 'v1', 'rolebindings', 'RoleBinding')
export const BUDGETS_V1 = namespaced('policy', 'v1', 'poddisruptionbudgets', 'PodDisruptionBudget')
export const BUDGETS_V1BETA1 = namespaced('policy', 'v1beta1', 'poddisruptionbudgets', 'PodDisruptionBudget')
export const PERSISTENT_VOLUMES: Resource = {
  group: '',
  version: 'v1',
  plural: 'persistentvolumes',
  kind: 'PersistentVolume',
  namespaced: false,
}
export const STORAGE_CLASSES: Resource = {
  group: 'storage.k8s.io',
  version: 'v1',
  plural: 'storageclasses',
  kind: 'StorageClass',
  namespaced: false,
}
export const NODES: Resource = {
  group: '',
  version: 'v1',
  plural: 'nodes',
  kind: 'Node',
  namespaced: false,
}
export const NAMESPACES: Resource = {
  group: '',
  version: 'v1',
  plural: 'namespaces',
  kind: 'Namespace',
  namespaced: false,
}

export function apiVersionOf(resource: Resource): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`
}

/** `namespace/name` */
export function keyOf(object: KubeObject): string {
  return `${object.metadata.namespace ?? ''}/${object.metadata.name}`
}

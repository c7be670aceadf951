/**
 * The collections that the store has: those that the operator, the filers and the stand-ins of `up` use. Whether an object is
 * valid is decided for our own kinds only (schema-gate.ts); of the built-in kinds the store keeps what it is given.
 */
import { kinds } from '../../api/v1alpha1/kinds.ts'
import type { Resource } from '../../edge/kube/api.ts'

export interface StoredResource extends Resource {
  /** PUT and PATCH of the object leave `status` alone, and those of `/status` change nothing else. */
  readonly status: boolean
  readonly shortNames: readonly string[]
}

function resource(
  group: string,
  version: string,
  plural: string,
  kind: string,
  options: { status?: boolean; cluster?: boolean; shortNames?: readonly string[] } = {},
): StoredResource {
  return {
    group,
    version,
    plural,
    kind,
    namespaced: options.cluster !== true,
    status: options.status === true,
    shortNames: options.shortNames ?? [],
  }
}

const status = { status: true }
const cluster = { cluster: true }

export const RESOURCES: readonly StoredResource[] = [
  ...kinds.map((kind) =>
    resource(kind.group, kind.version, kind.plural, kind.kind, { status: true, shortNames: kind.shortNames }),
  ),
  resource('', 'v1', 'pods', 'Pod', { status: true, shortNames: ['po'] }),
  resource('', 'v1', 'services', 'Service', { status: true, shortNames: ['svc'] }),
  resource('', 'v1', 'endpoints', 'Endpoints', { shortNames: ['ep'] }),
  resource('', 'v1', 'secrets', 'Secret'),
  resource('', 'v1', 'configmaps', 'ConfigMap', { shortNames: ['cm'] }),
  resource('', 'v1', 'events', 'Event', { shortNames: ['ev'] }),
  resource('', 'v1', 'serviceaccounts', 'ServiceAccount', { shortNames: ['sa'] }),
  resource('', 'v1', 'persistentvolumeclaims', 'PersistentVolumeClaim', {
    status: true,
    shortNames: ['pvc'],
  }),
  resource('', 'v1', 'persistentvolumes', 'PersistentVolume', {
    status: true,
    cluster: true,
    shortNames: ['pv'],
  }),
  resource('', 'v1', 'namespaces', 'Namespace', { status: true, cluster: true, shortNames: ['ns'] }),
  resource('', 'v1', 'nodes', 'Node', { status: true, cluster: true, shortNames: ['no'] }),
  resource('apps', 'v1', 'statefulsets', 'StatefulSet', { status: true, shortNames: ['sts'] }),
  resource('apps', 'v1', 'deployments', 'Deployment', { status: true, shortNames: ['deploy'] }),
  resource('coordination.k8s.io', 'v1', 'leases', 'Lease'),
  resource('policy', 'v1', 'poddisruptionbudgets', 'PodDisruptionBudget', {
    status: true,
    shortNames: ['pdb'],
  }),
  resource('rbac.authorization.k8s.io', 'v1', 'roles', 'Role'),
  resource('rbac.authorization.k8s.io', 'v1', 'rolebindings', 'RoleBinding'),
  resource('rbac.authorization.k8s.io', 'v1', 'clusterroles', 'ClusterRole', cluster),
  resource('rbac.authorization.k8s.io', 'v1', 'clusterrolebindings', 'ClusterRoleBinding', cluster),
  resource('networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy'),
  resource('storage.k8s.io', 'v1', 'storageclasses', 'StorageClass', { cluster: true, shortNames: ['sc'] }),
  resource('events.k8s.io', 'v1', 'events', 'Event'),
  resource('k8s.cni.cncf.io', 'v1', 'network-attachment-definitions', 'NetworkAttachmentDefinition', {
    shortNames: ['nad'],
  }),
  resource('apiextensions.k8s.io', 'v1', 'customresourcedefinitions', 'CustomResourceDefinition', {
    ...status,
    ...cluster,
    shortNames: ['crd'],
  }),
]

export function findResource(group: string, version: string, plural: string): StoredResource | undefined {
  return RESOURCES.find((r) => r.group === group && r.version === version && r.plural === plural)
}

export function resourceOfKind(apiVersion: string, kind: string): StoredResource | undefined {
  return RESOURCES.find((r) => apiVersionOf(r) === apiVersion && r.kind === kind)
}

export function apiVersionOf(resource: Resource): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`
}

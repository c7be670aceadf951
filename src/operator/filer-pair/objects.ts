/**
 * The Kubernetes objects of a pair, as server-side apply wants them: complete, and only what the operator decides. Pure. What is made
 * once and then belongs to the filers (the Lease, the selector of the clients' Services) is apart, in `lease` and `serviceSelector`.
 */
import { formatBytes, quantityBytes } from '../../api/quantity.ts'
import type { KubeObject, Resource } from '../../edge/kube/api.ts'
import {
  CLAIMS,
  LEASES,
  ROLES,
  ROLE_BINDINGS,
  SERVICES,
  SERVICE_ACCOUNTS,
  STATEFUL_SETS,
  apiVersionOf,
} from '../../edge/kube/resources.ts'
import {
  ANNOTATION_DEVICES,
  LABEL_FILER,
  LABEL_PAIR,
  LABEL_PAIR_ID,
  LABEL_VOLUME,
  LABEL_VOLUME_ID,
  LEASE_FINALIZER,
  PORTS,
  namesOf,
} from '../names.ts'
import { claimOf, devicesOf, poolsOf } from './accepted.ts'
import type { AcceptedPair, TraditionalVolume } from './accepted.ts'
import { podTemplate } from './pod.ts'

export interface Wanted {
  readonly resource: Resource
  readonly object: KubeObject
}

const LOG_CLAIM_EXTRA_BYTES = 256 * 2 ** 20

export function labelsOf(pair: AcceptedPair, filer?: string): Record<string, string> {
  return {
    'app.kubernetes.io/name': 'tandem',
    'app.kubernetes.io/managed-by': 'tandem-operator',
    [LABEL_PAIR]: pair.name,
    [LABEL_PAIR_ID]: pair.id,
    ...(filer === undefined ? {} : { [LABEL_FILER]: filer }),
  }
}

/** Objects go with their pair, except what holds data (`owned: false`). */
function make(
  pair: AcceptedPair,
  resource: Resource,
  name: string,
  filer: string | undefined,
  body: Record<string, unknown>,
  options: {
    owned?: boolean
    labels?: Record<string, string>
    annotations?: Record<string, string>
  } = {},
): Wanted {
  const owner = {
    apiVersion: 'tandem.storage/v1alpha1',
    kind: 'FilerPair',
    name: pair.name,
    uid: pair.uid,
    controller: true,
    blockOwnerDeletion: false,
  }
  return {
    resource,
    object: {
      apiVersion: apiVersionOf(resource),
      kind: resource.kind,
      metadata: {
        name,
        namespace: pair.namespace,
        labels: { ...labelsOf(pair, filer), ...options.labels },
        ...(options.annotations === undefined ? {} : { annotations: options.annotations }),
        ...(options.owned === false ? {} : { ownerReferences: [owner] }),
      },
      ...body,
    },
  }
}

/** A Secret of the pair. */
export function secret(
  pair: AcceptedPair,
  resource: Resource,
  name: string,
  filer: string | undefined,
  files: Record<string, string>,
): Wanted {
  const data = Object.fromEntries(
    Object.entries(files).map(([file, content]) => [file, Buffer.from(content).toString('base64')]),
  )
  return make(pair, resource, name, filer, { type: 'Opaque', data })
}

/** In the order in which they are made. `image` is the operator's own. */
export function objectsOf(pair: AcceptedPair, image: string, budgets: Resource | undefined): Wanted[] {
  const names = namesOf(pair.name)
  const filers = pair.spec.filers.map((f) => f.name)
  return [
    headlessService(pair),
    ...(budgets === undefined ? [] : [budget(pair, budgets)]),
    ...filers.flatMap((filer) => [
      make(pair, SERVICE_ACCOUNTS, names.account(filer), filer, {}),
      role(pair, filer),
      roleBinding(pair, filer),
      clientService(pair, filer),
      ...claims(pair, filer),
      statefulSet(pair, filer, image),
    ]),
  ]
}

function claims(pair: AcceptedPair, filer: string): Wanted[] {
  const names = namesOf(pair.name)
  const claim = (
    name: string,
    bytes: number,
    volumeMode: string,
    storageClassName: string | undefined,
    volume?: TraditionalVolume,
  ): Wanted =>
    make(
      pair,
      CLAIMS,
      name,
      filer,
      {
        spec: {
          accessModes: ['ReadWriteOnce'],
          volumeMode,
          ...(storageClassName === undefined ? {} : { storageClassName }),
          resources: { requests: { storage: formatBytes(bytes) } },
        },
      },
      { owned: false, ...(volume === undefined ? {} : volumeMarks(volume)) },
    )
  const { log } = pair.spec
  const logBytes = 2 * quantityBytes(log.size) + LOG_CLAIM_EXTRA_BYTES
  return [
    claim(names.logClaim(filer), logBytes, 'Filesystem', log.storageClassName),
    ...poolsOf(pair)
      .filter((pool) => pool.volume?.leaves !== true)
      .flatMap(devicesOf)
      .map((device) => {
        const { size, volumeMode, storageClassName } = device.set
        const bytes = quantityBytes(size)
        return claim(claimOf(pair, filer, device), bytes, volumeMode, storageClassName, device.pool.volume)
      }),
  ]
}

function volumeMarks({ name, id, filer, deviceSets }: TraditionalVolume) {
  return {
    labels: { [LABEL_VOLUME]: name, [LABEL_VOLUME_ID]: id },
    annotations: { [ANNOTATION_DEVICES]: JSON.stringify({ filer, deviceSets }) },
  }
}

function headlessService(pair: AcceptedPair): Wanted {
  return make(pair, SERVICES, namesOf(pair.name).headlessService, undefined, {
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: { [LABEL_PAIR]: pair.name },
      ports: [
        { name: 'interconnect', protocol: 'TCP', port: PORTS.interconnect, targetPort: PORTS.interconnect },
        { name: 'metrics', protocol: 'TCP', port: PORTS.metrics, targetPort: PORTS.metrics },
      ],
    },
  })
}

/** Without selector: whoever serves the side writes it (see serviceSelector). */
function clientService(pair: AcceptedPair, filer: string): Wanted {
  const { type, annotations } = pair.spec.service
  return make(
    pair,
    SERVICES,
    namesOf(pair.name).service(filer),
    filer,
    {
      spec: {
        type,
        publishNotReadyAddresses: true,
        ports: [{ name: 'nfs', protocol: 'TCP', port: PORTS.nfs, targetPort: PORTS.nfs }],
      },
    },
    annotations === undefined ? {} : { annotations },
  )
}

/** What a clients' Service selects when it is made: the filer whose side it is. Never written again by the operator. */
export function serviceSelector(pair: AcceptedPair, filer: string): Record<string, string> {
  return { [LABEL_PAIR]: pair.name, [LABEL_FILER]: filer }
}

export function lease(pair: AcceptedPair): Wanted {
  const wanted = make(pair, LEASES, namesOf(pair.name).lease, undefined, { spec: {} }, { owned: false })
  wanted.object.metadata.finalizers = [LEASE_FINALIZER]
  return wanted
}

function budget(pair: AcceptedPair, resource: Resource): Wanted {
  return make(pair, resource, namesOf(pair.name).budget, undefined, {
    spec: { minAvailable: 1, selector: { matchLabels: { [LABEL_PAIR]: pair.name } } },
  })
}

/** The least: one Lease, the two Services, its own pod, its partner's address. */
function role(pair: AcceptedPair, filer: string): Wanted {
  const names = namesOf(pair.name)
  const filers = pair.spec.filers.map((f) => f.name)
  return make(pair, ROLES, names.account(filer), filer, {
    rules: [
      {
        apiGroups: ['coordination.k8s.io'],
        resources: ['leases'],
        resourceNames: [names.lease],
        verbs: ['get', 'watch', 'update'],
      },
      {
        apiGroups: [''],
        resources: ['services'],
        resourceNames: filers.map(names.service),
        verbs: ['get', 'update', 'patch'],
      },
      { apiGroups: [''], resources: ['pods'], resourceNames: [names.pod(filer)], verbs: ['get', 'patch'] },
      {
        apiGroups: [''],
        resources: ['pods'],
        resourceNames: filers.filter((f) => f !== filer).map(names.pod),
        verbs: ['get', 'watch'],
      },
    ],
  })
}

function roleBinding(pair: AcceptedPair, filer: string): Wanted {
  const name = namesOf(pair.name).account(filer)
  return make(pair, ROLE_BINDINGS, name, filer, {
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
    subjects: [{ kind: 'ServiceAccount', name, namespace: pair.namespace }],
  })
}

/** OnDelete, so that a template's change waits until the filer may go; no claim templates, for they could never change. */
function statefulSet(pair: AcceptedPair, filer: string, image: string): Wanted {
  const names = namesOf(pair.name)
  return make(pair, STATEFUL_SETS, names.statefulSet(filer), filer, {
    spec: {
      replicas: pair.isAtRest === true ? 0 : 1,
      serviceName: names.headlessService,
      podManagementPolicy: 'Parallel',
      updateStrategy: { type: 'OnDelete' },
      selector: { matchLabels: { [LABEL_PAIR]: pair.name, [LABEL_FILER]: filer } },
      template: podTemplate(pair, filer, image, labelsOf(pair, filer)),
    },
  })
}

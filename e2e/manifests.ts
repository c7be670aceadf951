/**
 * The samples of manifests/samples as a two-node cluster with two storage networks runs them. Only what depends on the cluster is
 * changed: networks, storage class, sizes that fit its disks, one pod per node.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments, stringify } from 'yaml'

interface DeviceSet {
  size: string
  storageClassName?: string
}
export interface Manifest {
  apiVersion: string
  kind: string
  metadata: { name: string; namespace?: string }
  spec: Record<string, unknown>
}
interface Deployment {
  kind: string
  spec: { template: { spec: { containers: { image: string }[] } } }
}
interface PairSpec {
  aggregates: { deviceSets: DeviceSet[] }[]
}

const checkout = join(import.meta.dirname, '..')
const storageClassName = 'local-disks'
/** What each pair needs of a network: the interface's name in the pod. */
export const networks = { ic1: 'storage1', ic2: 'storage2' } as const

/** Of the samples, those that a newcomer applies first. */
const quickStart = [
  { kind: 'FilerPair', name: 'east' },
  { kind: 'FilerVolume', name: 'home' },
]

export const readInstall = (): string => readFileSync(join(checkout, 'manifests/install.yaml'), 'utf8')

/** The image that install.yaml runs, with the registry and tag that a container runtime adds to a short name. */
export function imageOf(install: string): string {
  const deployment = parseAllDocuments(install)
    .map((document) => document.toJS() as Deployment | null)
    .find((manifest) => manifest?.kind === 'Deployment')
  const name = deployment?.spec.template.spec.containers[0]?.image
  if (name === undefined) throw new Error('manifests/install.yaml names no image')
  const first = name.split('/')[0]!
  const full =
    (name.includes('/') && (first.includes('.') || first.includes(':'))) || first === 'localhost'
      ? name
      : `docker.io/${name.includes('/') ? '' : 'library/'}${name}`
  return /:[^/]+$/.test(full) ? full : `${full}:latest`
}

/** NetworkAttachmentDefinitions in the pair's namespace: a bridge of the node, addresses by node. */
export function attachments(namespace: string): string {
  return Object.values(networks)
    .map((bridge, index) => {
      const subnet = 98 + index
      const range = {
        subnet: `10.${subnet}.0.0/16`,
        rangeStart: `10.${subnet}.@NODE@.2`,
        rangeEnd: `10.${subnet}.@NODE@.250`,
      }
      const config = {
        cniVersion: '0.4.0',
        type: 'bridge',
        bridge,
        ipam: { type: 'host-local', ranges: [[range]] },
      }
      return stringify({
        apiVersion: 'k8s.cni.cncf.io/v1',
        kind: 'NetworkAttachmentDefinition',
        metadata: { name: bridge, namespace },
        spec: { config: JSON.stringify(config) },
      })
    })
    .join('---\n')
}

export function samples(): Manifest[] {
  const folder = join(checkout, 'manifests/samples')
  return readdirSync(folder)
    .filter((name) => name.endsWith('.yaml'))
    .sort()
    .flatMap((name) => parseAllDocuments(readFileSync(join(folder, name), 'utf8')))
    .map((document) => document.toJS() as Manifest | null)
    .filter((manifest) => manifest !== null)
    .filter(({ kind, metadata }) =>
      quickStart.some((object) => object.kind === kind && object.name === metadata.name),
    )
}

/** The samples, adapted. */
export function adapted(manifests: Manifest[]): Manifest[] {
  return manifests.map((manifest) => {
    if (manifest.kind === 'FilerVolume') return { ...manifest, spec: { ...manifest.spec, size: '1Gi' } }
    if (manifest.kind !== 'FilerPair') return manifest
    const { aggregates } = manifest.spec as unknown as PairSpec
    const interconnects = [
      { name: 'default' },
      ...Object.entries(networks).map(([name, attachment]) => ({
        name,
        networkAttachment: { name: attachment },
      })),
    ]
    return {
      ...manifest,
      spec: {
        ...manifest.spec,
        interconnects,
        aggregates: aggregates.map((aggregate) => ({
          ...aggregate,
          deviceSets: aggregate.deviceSets.map((set) => ({ ...set, size: '1Gi', storageClassName })),
        })),
        log: { size: '128Mi', storageClassName },
        cacheSize: '256Mi',
        placement: { spread: 'Required' },
        takeover: { giveback: 'Manual' },
      },
    }
  })
}

/** The words by which a person names kinds and objects: `fp`, `filerpairs`, `FilerPair`, `fp/east`. */
import { nearest } from '../../api/nearest.ts'
import { kinds } from '../../api/v1alpha1/kinds.ts'
import type { Column, Kind } from '../../api/schema.ts'
import { RESOURCES } from '../store/resources.ts'
import type { StoredResource } from '../store/resources.ts'
import { UsageError } from './args.ts'

export function findResourceByWord(word: string): StoredResource | undefined {
  const wanted = word.toLowerCase()
  return RESOURCES.find((resource) => wordsOf(resource).includes(wanted))
}

function wordsOf(resource: StoredResource): string[] {
  return [resource.plural, resource.kind.toLowerCase(), ...resource.shortNames]
}

/** `tandem`: every kind of ours. */
export function resourcesByWords(words: string): StoredResource[] {
  return words.split(',').flatMap((word) => {
    if (word === 'tandem')
      return kinds.map((kind) =>
        RESOURCES.find((resource) => resource.plural === kind.plural && resource.group === kind.group)!,
      )
    const resource = findResourceByWord(word)
    if (resource !== undefined) return [resource]
    const near = nearest(word.toLowerCase(), RESOURCES.flatMap(wordsOf))
    throw new UsageError(
      `no kind ${JSON.stringify(word)}${near === undefined ? '' : `; the nearest is ${near}`}`,
    )
  })
}

export interface Selection {
  readonly resource: StoredResource
  /** None: all of them. */
  readonly names: readonly string[]
}

/** `KIND`, `KIND NAME…`, `KIND/NAME…` and mixtures of the last. */
export function parseSelections(operands: readonly string[]): Selection[] {
  if (operands.some((word) => word.includes('/')))
    return operands.map((word) => {
      const [kind, name, ...more] = word.split('/')
      if (kind === undefined || name === undefined || name === '' || more.length > 0)
        throw new UsageError(`${JSON.stringify(word)} is not KIND/NAME; one form for all words, please`)
      return { resource: resourcesByWords(kind)[0]!, names: [name] }
    })
  const [words, ...names] = operands
  if (words === undefined)
    throw new UsageError(
      'which kind? For instance: fp (FilerPair), fv (FilerVolume), mir (Mirror), conv (Conversion)',
    )
  const resources = resourcesByWords(words)
  if (resources.length > 1 && names.length > 0) throw new UsageError('names go with one kind only')
  return resources.map((resource) => ({ resource, names }))
}

export function kindOf(resource: StoredResource): Kind | undefined {
  return kinds.find((kind) => kind.plural === resource.plural && kind.group === resource.group)
}

const AGE: Column = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' }
const column = (name: string, jsonPath: string): Column => ({ name, type: 'string', jsonPath })

/** Columns of the built-in kinds that are worth one. */
const BUILT_IN: Readonly<Record<string, readonly Column[]>> = {
  pods: [
    column('Ready', '.status.conditions[?(@.type=="Ready")].status'),
    column('Status', '.status.phase'),
    column('Restarts', '.status.containerStatuses[0].restartCount'),
    column('IP', '.status.podIP'),
  ],
  statefulsets: [column('Ready', '.status.readyReplicas'), column('Replicas', '.spec.replicas')],
  services: [
    column('Type', '.spec.type'),
    column('Cluster-IP', '.spec.clusterIP'),
    column('Filer', '.spec.selector.tandem\\.storage/filer'),
    column('Address', '.metadata.annotations.tandem\\.storage/embedded-address'),
  ],
  persistentvolumeclaims: [column('Status', '.status.phase'), column('Capacity', '.status.capacity.storage')],
  persistentvolumes: [
    column('Capacity', '.spec.capacity.storage'),
    column('Claim', '.spec.claimRef.name'),
    column('Path', '.spec.nfs.path'),
  ],
  leases: [column('Holder', '.spec.holderIdentity')],
  events: [
    column('Last', '.lastTimestamp'),
    column('Type', '.type'),
    column('Reason', '.reason'),
    column('Object', '.involvedObject.name'),
    column('Message', '.message'),
  ],
}

export function columnsOf(resource: StoredResource): readonly Column[] {
  return kindOf(resource)?.columns ?? [...(BUILT_IN[resource.plural] ?? []), AGE]
}

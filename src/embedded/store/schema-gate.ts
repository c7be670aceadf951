/**
 * Our own kinds at the door of the store: defaults, rules and unknown fields by the schemas of src/api, as a current API server has
 * them from the CRDs. Objects of other kinds pass as they are. It keeps no state.
 */
import type { Kind, Schema } from '../../api/schema.ts'
import { describeProblems, validateObject } from '../../api/validate.ts'
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import type { SchemaGate } from './object-store.ts'
import type { ListType, ListTypes } from './ownership.ts'
import type { StoredResource } from './resources.ts'

/** Lists of the built-in kinds that merge by key; the name of the field is enough to tell them. */
const BUILT_IN_LISTS: Readonly<Record<string, ListType>> = {
  conditions: ['type'],
  containers: ['name'],
  env: ['name'],
  finalizers: 'set',
  imagePullSecrets: ['name'],
  initContainers: ['name'],
  ownerReferences: ['uid'],
  ports: ['port', 'containerPort', 'protocol'],
  volumeMounts: ['mountPath'],
  volumes: ['name'],
}

function builtInType(path: readonly string[]): ListType {
  const name = path.at(-1) ?? ''
  return Object.hasOwn(BUILT_IN_LISTS, name) ? BUILT_IN_LISTS[name]! : 'atomic'
}

function schemaAt(schema: Schema | undefined, path: readonly string[]): Schema | undefined {
  const [name, ...rest] = path
  if (schema?.kind === 'list') return name === undefined ? schema : schemaAt(schema.item, path)
  if (name === undefined) return schema
  if (schema?.kind === 'object') return schemaAt(schema.fields[name], rest)
  if (schema?.kind === 'map') return schemaAt(schema.value, rest)
  return undefined
}

function listTypesOf(kind: Kind): ListTypes {
  const known = new Map<string, ListType>()
  return ([part, ...path]) => {
    if (part === 'metadata') return builtInType(path)
    const id = [part, ...path].join('.')
    const before = known.get(id)
    if (before !== undefined) return before
    const schema = schemaAt(part === 'status' ? kind.status : kind.spec, path)
    const type: ListType =
      schema?.kind !== 'list'
        ? 'atomic'
        : schema.listType === 'map'
          ? [schema.key ?? 'name']
          : schema.listType
    known.set(id, type)
    return type
  }
}

export function schemaGate(kinds: readonly Kind[]): SchemaGate {
  const byPlural = new Map(kinds.map((kind) => [`${kind.group}/${kind.version}/${kind.plural}`, kind]))
  const listTypes = new Map(kinds.map((kind) => [kind, listTypesOf(kind)]))
  const kindOf = (resource: StoredResource): Kind | undefined =>
    byPlural.get(`${resource.group}/${resource.version}/${resource.plural}`)
  return {
    admit(resource, object, old, part): KubeObject {
      const kind = kindOf(resource)
      if (kind === undefined || part === 'status') return object
      const result = validateObject<KubeObject>(kind, object, old)
      if (result.ok) return result.value
      throw new KubeError(
        422,
        'Invalid',
        `${kind.kind} ${object.metadata.name}: ${describeProblems(result.problems)}`,
      )
    },
    listTypes: (resource) => {
      const kind = kindOf(resource)
      return kind === undefined ? builtInType : listTypes.get(kind)!
    },
  }
}

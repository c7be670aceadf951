/** A kind as CustomResourceDefinition (apiextensions.k8s.io/v1). Rules become CEL, which servers older than 1.29 drop. */
import type { Kind, Rule, Schema } from './schema.ts'
import { applyDefaults } from './validate.ts'

type Json = Record<string, unknown>

export function customResourceDefinition(kind: Kind): Json {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${kind.plural}.${kind.group}` },
    spec: {
      group: kind.group,
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural: kind.plural,
        singular: kind.singular,
        shortNames: [...kind.shortNames],
        categories: [...kind.categories],
      },
      scope: 'Namespaced',
      versions: [
        {
          name: kind.version,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: kind.columns.map((c) => ({
            name: c.name,
            type: c.type,
            jsonPath: c.jsonPath,
            ...(c.wide ? { priority: 1 } : {}),
          })),
          schema: { openAPIV3Schema: rootSchema(kind) },
        },
      ],
    },
  }
}

function rootSchema(kind: Kind): Json {
  return {
    type: 'object',
    description: kind.description,
    ...validations(kind.rules, ''),
    required: ['spec'],
    properties: {
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      metadata: { type: 'object' },
      spec: openApi(kind.spec, 'spec', kind.rules),
      status: openApi(kind.status, 'status', kind.rules),
    },
  }
}

function validations(rules: readonly Rule[], path: string): Json {
  const here = rules.filter((r) => r.path === path)
  if (here.length === 0) return {}
  return { 'x-kubernetes-validations': here.map((r) => ({ rule: r.cel, message: r.message })) }
}

function openApi(schema: Schema, path: string, rules: readonly Rule[]): Json {
  const common: Json = {
    description: schema.description,
    // Complete, for a server evaluates the rules inside of a default before it fills that in.
    ...(schema.default === undefined ? {} : { default: applyDefaults(schema, schema.default) }),
    ...validations(rules, path),
  }
  switch (schema.kind) {
    case 'string':
      return {
        type: 'string',
        ...common,
        ...(schema.format === 'date-time' ? { format: 'date-time' } : {}),
        ...(schema.enum === undefined ? {} : { enum: [...schema.enum] }),
        ...(schema.pattern === undefined ? {} : { pattern: schema.pattern }),
        ...(schema.minLength === undefined ? {} : { minLength: schema.minLength }),
        ...(schema.maxLength === undefined ? {} : { maxLength: schema.maxLength }),
      }
    case 'integer':
      return {
        type: 'integer',
        format: 'int64',
        ...common,
        ...(schema.minimum === undefined ? {} : { minimum: schema.minimum }),
        ...(schema.maximum === undefined ? {} : { maximum: schema.maximum }),
      }
    case 'boolean':
      return { type: 'boolean', ...common }
    case 'list':
      return {
        type: 'array',
        ...common,
        'x-kubernetes-list-type': schema.listType,
        ...(schema.key === undefined ? {} : { 'x-kubernetes-list-map-keys': [schema.key] }),
        ...(schema.minItems === undefined ? {} : { minItems: schema.minItems }),
        ...(schema.maxItems === undefined ? {} : { maxItems: schema.maxItems }),
        items: openApi(schema.item, `${path}[]`, rules),
      }
    case 'map':
      return {
        type: 'object',
        ...common,
        ...(schema.maxProperties === undefined ? {} : { maxProperties: schema.maxProperties }),
        additionalProperties: openApi(schema.value, `${path}.*`, rules),
      }
    case 'object': {
      const required = Object.entries(schema.fields)
        .filter(([, field]) => field.presence === 'required' && field.default === undefined)
        .map(([name]) => name)
      return {
        type: 'object',
        ...common,
        // Fields of a part of the status that goes are removed one by one otherwise, and servers as old as 1.20 leave null in its place, which they then refuse.
        ...(schema.presence === 'optional' && path.startsWith('status.')
          ? { 'x-kubernetes-map-type': 'atomic' }
          : {}),
        ...(required.length === 0 ? {} : { required }),
        properties: Object.fromEntries(
          Object.entries(schema.fields).map(([name, field]) => [
            name,
            openApi(field, `${path}.${name}`, rules),
          ]),
        ),
      }
    }
  }
}

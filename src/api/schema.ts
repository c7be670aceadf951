/**
 * The language in which the kinds of the API are written down once. From a schema come the TypeScript type (`Infer`), the
 * CustomResourceDefinition (crd.ts), the reference (reference.ts) and the checks of validate.ts. Only what structural schemas of
 * Kubernetes can say is expressible; quantities and durations are strings with a pattern, because an int-or-string anywhere in a
 * schema makes every list of it atomic for server-side apply on older servers.
 */
declare const phantom: unique symbol

export type Presence = 'required' | 'optional'

interface Base<T, P extends Presence> {
  readonly description: string
  readonly presence: P
  /** What the server, the operator and the embedded store put where the field is absent. */
  readonly default?: unknown
  readonly [phantom]?: T
}
export interface StringSchema<T = string, P extends Presence = Presence> extends Base<T, P> {
  readonly kind: 'string'
  readonly format: 'plain' | 'quantity' | 'duration' | 'date-time'
  readonly enum?: readonly string[]
  readonly pattern?: string
  /** The pattern in words, for messages. */
  readonly patternMeans?: string
  readonly minLength?: number
  readonly maxLength?: number
}
export interface IntegerSchema<T = number, P extends Presence = Presence> extends Base<T, P> {
  readonly kind: 'integer'
  readonly minimum?: number
  readonly maximum?: number
}
export interface BooleanSchema<T = boolean, P extends Presence = Presence> extends Base<T, P> {
  readonly kind: 'boolean'
}
export interface ListSchema<T = unknown, P extends Presence = Presence> extends Base<T, P> {
  readonly kind: 'list'
  readonly item: Schema
  /** `map`: entries are found by `key`, which is unique; `atomic`: replaced as a whole, order matters; `set`: scalars, unique. */
  readonly listType: 'map' | 'atomic' | 'set'
  readonly key?: string
  readonly minItems?: number
  readonly maxItems?: number
}
export interface MapSchema<T = unknown, P extends Presence = Presence> extends Base<T, P> {
  readonly kind: 'map'
  readonly value: Schema
  readonly maxProperties?: number
}
export interface ObjectSchema<T = unknown, P extends Presence = Presence> extends Base<T, P> {
  readonly kind: 'object'
  readonly fields: Readonly<Record<string, Schema>>
}
export type Schema<T = unknown, P extends Presence = Presence> =
  | StringSchema<T, P>
  | IntegerSchema<T, P>
  | BooleanSchema<T, P>
  | ListSchema<T, P>
  | MapSchema<T, P>
  | ObjectSchema<T, P>

/** The type of a value after defaulting. */
export type Infer<S> = S extends { readonly [phantom]?: infer T } ? Exclude<T, undefined> : never
type PresenceOf<S> = S extends { readonly presence: infer P } ? P : never
type Flat<T> = { [K in keyof T]: T[K] }
type FieldsType<F> = Flat<
  { -readonly [K in keyof F as PresenceOf<F[K]> extends 'required' ? K : never]: Infer<F[K]> } & {
    -readonly [K in keyof F as PresenceOf<F[K]> extends 'required' ? never : K]?: Infer<F[K]>
  }
>

type StringOptions = Partial<
  Pick<StringSchema, 'pattern' | 'patternMeans' | 'minLength' | 'maxLength' | 'format'>
>

export function string(description: string, options: StringOptions = {}): StringSchema<string, 'required'> {
  return { kind: 'string', format: 'plain', presence: 'required', description, ...options }
}
export function oneOf<const V extends string>(
  description: string,
  values: readonly V[],
): StringSchema<V, 'required'> {
  return { kind: 'string', format: 'plain', presence: 'required', description, enum: values }
}
export function quantity(description: string): StringSchema<string, 'required'> {
  return {
    kind: 'string',
    format: 'quantity',
    presence: 'required',
    description,
    pattern: '^[0-9]+([.][0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$',
    patternMeans: 'a quantity such as 512Mi or 100Gi',
    maxLength: 32,
  }
}
export function duration(description: string): StringSchema<string, 'required'> {
  return {
    kind: 'string',
    format: 'duration',
    presence: 'required',
    description,
    pattern: '^([0-9]+(h|m|s|ms))+$',
    patternMeans: 'a duration such as 10m or 1h30m',
    maxLength: 32,
  }
}
export function integer(
  description: string,
  options: { minimum?: number; maximum?: number } = {},
): IntegerSchema<number, 'required'> {
  return { kind: 'integer', presence: 'required', description, ...options }
}
export function boolean(description: string): BooleanSchema<boolean, 'required'> {
  return { kind: 'boolean', presence: 'required', description }
}
export function list<S extends Schema>(
  description: string,
  item: S,
  options: Pick<ListSchema, 'listType'> & Partial<Pick<ListSchema, 'key' | 'minItems' | 'maxItems'>>,
): ListSchema<Infer<S>[], 'required'> {
  return { kind: 'list', presence: 'required', description, item, ...options }
}
export function map<S extends Schema>(
  description: string,
  value: S,
  options: { maxProperties?: number } = {},
): MapSchema<Record<string, Infer<S>>, 'required'> {
  return { kind: 'map', presence: 'required', description, value, ...options }
}
export function object<const F extends Readonly<Record<string, Schema>>>(
  description: string,
  fields: F,
): ObjectSchema<FieldsType<F>, 'required'> {
  return { kind: 'object', presence: 'required', description, fields }
}

type WithPresence<S, P extends Presence> = Omit<S, 'presence'> & { readonly presence: P }

export function optional<S extends Schema>(schema: S): WithPresence<S, 'optional'> {
  return { ...schema, presence: 'optional' }
}
/** A field that may be left out and is never absent afterwards. */
export function defaulted<S extends Schema>(schema: S, value: unknown): S {
  return { ...schema, default: value }
}

/**
 * One rule over more than one field, or over a field and what it was: CEL where the server has it, `check` everywhere else.
 * `path` names the value that is `self`, from the object's root: `spec.aggregates[].size`; `''` is the object.
 */
export interface Rule {
  readonly path: string
  readonly cel: string
  readonly message: string
  /** Evaluated on a change only; `old` is the value before it. */
  readonly transition: boolean
  check(self: unknown, old: unknown): boolean
}

export function rule<T>(path: string, cel: string, message: string, check: (self: T) => boolean): Rule {
  return { path, cel, message, transition: false, check: (self) => check(self as T) }
}
export function transition<T>(
  path: string,
  cel: string,
  message: string,
  check: (self: T, old: T) => boolean,
): Rule {
  return { path, cel, message, transition: true, check: (self, old) => check(self as T, old as T) }
}

export interface Column {
  readonly name: string
  readonly type: 'string' | 'integer' | 'date'
  readonly jsonPath: string
  /** Only in the wide output. */
  readonly wide?: boolean
}
export interface ConditionDoc {
  readonly type: string
  readonly means: string
  readonly reasons: Readonly<Record<string, string>>
}
/** Everything about one kind of the API. */
export interface Kind {
  readonly group: string
  readonly version: string
  readonly kind: string
  readonly plural: string
  readonly singular: string
  readonly shortNames: readonly string[]
  readonly categories: readonly string[]
  readonly description: string
  readonly spec: Schema
  readonly status: Schema
  readonly rules: readonly Rule[]
  readonly columns: readonly Column[]
  readonly conditions: readonly ConditionDoc[]
}

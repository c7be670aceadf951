/** Parts that several kinds share, and limits that rules and messages both name. */
import type { Infer, Rule } from '../schema.ts'
import { defaulted, integer, list, object, oneOf, optional, rule, string } from '../schema.ts'
import { parseQuantity } from '../quantity.ts'

export const GROUP = 'tandem.storage'
export const VERSION = 'v1alpha1'

export const exportRule = object('Who may use an export. The first rule that names a client decides.', {
  clients: list(
    'Addresses of clients, IPv4, with or without a prefix length. Pods mount through their node: rules see node addresses.',
    {
      ...string('One address or network.', {
        pattern:
          '^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(/(3[0-2]|[12]?[0-9]))?$',
        patternMeans: 'an IPv4 address or network such as 10.0.0.0/8',
        maxLength: 18,
      }),
    },
    { listType: 'atomic', minItems: 1, maxItems: 64 },
  ),
  access: defaulted(oneOf('What clients may do.', ['ReadWrite', 'ReadOnly']), 'ReadWrite'),
  squash: defaulted(
    oneOf('Whose calls are answered as the anonymous user 65534: nobody’s, root’s, everybody’s.', [
      'None',
      'Root',
      'All',
    ]),
    'Root',
  ),
})
export type ExportRule = Infer<typeof exportRule>

export function exportRules(description: string) {
  return list(description, exportRule, { listType: 'atomic', maxItems: 64 })
}

export const condition = object('One condition.', {
  type: string('Name of the condition.'),
  status: oneOf('Whether it holds.', ['True', 'False', 'Unknown']),
  observedGeneration: optional(integer('metadata.generation that it speaks of.')),
  lastTransitionTime: string('When the status last changed.', { format: 'date-time' }),
  reason: string('One word from a closed list.'),
  message: string('Which field or part, why, and what to do.'),
})
export type Condition = Infer<typeof condition>

/** Reasons of `Accepted` that every kind has. */
export const acceptedReasons = {
  Accepted: 'It is.',
  InvalidSpec: 'A field is wrong; the last accepted spec, if any, stays in force.',
  ImmutableField: 'A field that is fixed was changed; the last accepted spec stays in force.',
}

export const conditions = list('What holds and what does not.', condition, {
  listType: 'map',
  key: 'type',
  maxItems: 16,
})

/** A quantity that must not be smaller than `minimum`; `what` says in the message what it is the size of. */
export function atLeast(path: string, minimum: string, what: string): Rule {
  return rule<string>(
    path,
    `quantity(self).compareTo(quantity('${minimum}')) >= 0`,
    `${what} must be at least ${minimum}; raise ${path}`,
    (self) => parseQuantity(self)! >= parseQuantity(minimum)!,
  )
}

export interface Metadata {
  name: string
  namespace?: string
  uid?: string
  resourceVersion?: string
  generation?: number
  creationTimestamp?: string
  deletionTimestamp?: string
  finalizers?: string[]
  labels?: Record<string, string>
  annotations?: Record<string, string>
}

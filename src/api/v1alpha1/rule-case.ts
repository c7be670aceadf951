/** A line of the table of rules (rules.cases.ts). */
export interface RuleCase {
  readonly name: string
  readonly kind: 'FilerPair' | 'FilerVolume' | 'Mirror' | 'Conversion'
  /** Name of the object; `case` if absent. */
  readonly objectName?: string
  readonly old?: Record<string, unknown>
  readonly spec: Record<string, unknown>
  /** Part of the message, or undefined: accepted. */
  readonly refused?: string
  /** Refused by the schema, not by a rule: CEL has no say. */
  readonly bySchema?: true
}

/**
 * Which spec of an object is in force. Servers without CEL let every change through; so the last accepted spec is kept in an
 * annotation, a new one is checked against it, and while the check refuses, the old one stays in force.
 */
import type { Kind } from '../api/schema.ts'
import { describeProblems, validateSpec } from '../api/validate.ts'
import type { KubeObject } from '../edge/kube/api.ts'
import { ANNOTATION_ACCEPTED } from './names.ts'
import { fails, holds } from './runtime/conditions.ts'
import type { Verdict } from './runtime/conditions.ts'

export interface Acceptance<T> {
  /** Spec in force; undefined when there never was a good one. */
  readonly spec: T | undefined
  readonly verdict: Verdict
  /** What the annotation must say, if it does not. */
  readonly annotation: string | undefined
}

export function acceptedBefore(object: KubeObject): unknown {
  const text = object.metadata.annotations?.[ANNOTATION_ACCEPTED]
  if (text === undefined) return undefined
  try {
    const value = JSON.parse(text) as { uid?: string; spec?: unknown }
    // A copy of an object of another life says nothing about this one.
    return value.uid === object.metadata.uid ? value.spec : undefined
  } catch {
    return undefined
  }
}

/** The spec of this life of the object that was accepted last, with its defaults. */
export function specInForce<T>(kind: Kind, object: KubeObject): T | undefined {
  const before = acceptedBefore(object)
  const old = before === undefined ? undefined : validateSpec<T>(kind, object.metadata.name, before)
  return old?.ok ? old.value : undefined
}

/** `further` are checks beyond the object itself; they judge a spec that is good in itself, beside the one in force. */
export function accept<T>(
  kind: Kind,
  object: KubeObject,
  further: (spec: T, inForce: T | undefined) => Verdict | undefined = () => undefined,
): Acceptance<T> {
  const inForce = specInForce<T>(kind, object)
  const next = validateSpec<T>(kind, object.metadata.name, object['spec'], inForce)
  const stays = inForce === undefined ? '' : '; until then the last accepted spec stays in force'
  if (!next.ok) {
    const reason = next.problems[0]!.reason
    return {
      spec: inForce,
      verdict: fails(reason, describeProblems(next.problems) + stays),
      annotation: undefined,
    }
  }
  const refusal = further(next.value, inForce)
  if (refusal !== undefined)
    return {
      spec: inForce,
      verdict: { ...refusal, message: refusal.message + stays },
      annotation: undefined,
    }
  const text = JSON.stringify({ uid: object.metadata.uid, spec: next.value })
  return {
    spec: next.value,
    verdict: holds('Accepted', 'the spec is valid and in force'),
    annotation: object.metadata.annotations?.[ANNOTATION_ACCEPTED] === text ? undefined : text,
  }
}

/** Whether an object already is what is wanted, so that a pass over what is right writes nothing. */
import { createHash } from 'node:crypto'
import type { KubeObject } from '../../edge/kube/api.ts'
import { ANNOTATION_APPLIED } from '../names.ts'

/** The configuration with the hash of itself. */
export function stamped(object: KubeObject): KubeObject {
  const hash = createHash('sha256').update(JSON.stringify(object)).digest('hex').slice(0, 16)
  return {
    ...object,
    metadata: {
      ...object.metadata,
      annotations: { ...object.metadata.annotations, [ANNOTATION_APPLIED]: hash },
    },
  }
}

/** True when all of `wanted` is in `there`. The hash in it tells fields that were applied once and are wanted no more. */
export function isApplied(wanted: unknown, there: unknown): boolean {
  if (Array.isArray(wanted))
    return (
      Array.isArray(there) && wanted.length === there.length && wanted.every((w, i) => isApplied(w, there[i]))
    )
  if (typeof wanted !== 'object' || wanted === null) return wanted === there
  if (typeof there !== 'object' || there === null) return Object.keys(wanted).length === 0
  return Object.entries(wanted).every(([key, value]) =>
    isApplied(value, (there as Record<string, unknown>)[key]),
  )
}

/**
 * Moves a side's Service to the filer that serves it: one write of the selector, guarded by resourceVersion and by the epoch
 * that the last mover left in an annotation, so that an owner of an older epoch never takes the address back.
 */
import type { KubeApi, Resource } from '../kube/api.ts'
import { KubeError } from '../kube/api.ts'

export const SERVICES: Resource = {
  group: '',
  version: 'v1',
  plural: 'services',
  kind: 'Service',
  namespaced: true,
}
export const EPOCH_ANNOTATION = 'tandem.storage/epoch'
export const FILER_LABEL = 'tandem.storage/filer'

export type MoveResult = 'MOVED' | 'ALREADY_THERE' | 'NEWER_EPOCH'

/** Points Service `name` at `filer`. Rejects KubeError (other than a conflict, which is looked at again). */
export async function moveService(
  api: KubeApi,
  namespace: string,
  name: string,
  filer: string,
  epoch: number,
): Promise<MoveResult> {
  for (;;) {
    const service = await api.get(SERVICES, namespace, name)
    const before = Number(service.metadata.annotations?.[EPOCH_ANNOTATION] ?? '0')
    if (before > epoch) return 'NEWER_EPOCH'
    const spec = service['spec'] as { selector?: Record<string, string> }
    if (spec.selector?.[FILER_LABEL] === filer && before === epoch) return 'ALREADY_THERE'
    try {
      await api.update(SERVICES, {
        ...service,
        metadata: {
          ...service.metadata,
          annotations: { ...service.metadata.annotations, [EPOCH_ANNOTATION]: String(epoch) },
        },
        spec: { ...spec, selector: { ...spec.selector, [FILER_LABEL]: filer } },
      })
      return 'MOVED'
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== 409) throw error
    }
  }
}

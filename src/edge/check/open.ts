/** An aggregate's image opened for looking at it: nothing is written, and volumes hold no file system but only its root. */
import { Aggregate } from '../../core/block/aggregate.ts'
import { BufferCache } from '../../core/block/buffer-cache.ts'
import type { Device } from '../../core/env/device.ts'
import type { Env } from '../../core/env/env.ts'

/** Throws AggregateError, DeviceError. */
export function openReadOnly(env: Env, devices: readonly Device[], cacheBytes: number): Promise<Aggregate> {
  return Aggregate.open(env, devices, {
    cache: new BufferCache(cacheBytes),
    content: (_, root) => ({ freeze: () => root ?? new Uint8Array(0), restored: () => undefined }),
    readOnly: true,
  })
}

/** An aggregate's image opened for looking at it: nothing is written, and volumes hold no file system but only its root. */
import { Aggregate } from '../../core/block/aggregate.ts'
import { BufferCache } from '../../core/block/buffer-cache.ts'
import type { Device } from '../../core/env/device.ts'
import type { Env } from '../../core/env/env.ts'

/** What an image is read from. `source`: devices that hold blocks of its converted volume and have not joined yet. */
export interface ImageParts<T> {
  readonly own: readonly T[]
  readonly source?: readonly T[]
}

export interface OpenImage {
  readonly aggregate: Aggregate
  /** The aggregate that the converted volume came from, until its devices join. */
  readonly source: Aggregate | undefined
}

/** Throws AggregateError, DeviceError. */
export async function openReadOnly(
  env: Env,
  devices: ImageParts<Device>,
  cacheBytes: number,
): Promise<OpenImage> {
  const cache = new BufferCache(cacheBytes)
  const open = (members: readonly Device[]): Promise<Aggregate> =>
    Aggregate.open(env, members, {
      cache,
      content: (_, root) => ({ freeze: () => root ?? new Uint8Array(0), restored: () => undefined }),
      readOnly: true,
    })
  const aggregate = await open(devices.own)
  const source = devices.source && (await open(devices.source))
  if (source !== undefined) aggregate.attachOld(source.io)
  return { aggregate, source }
}

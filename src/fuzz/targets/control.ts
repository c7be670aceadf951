/**
 * The blocks that say what everything else is (labels, roots, entries of the volume table, snapshots' tables, mailboxes), changed, with checksums that hold: whoever reads them must
 * take them, or say in its own words why not.
 */
import { checkAggregate } from '../../core/block/check.ts'
import { checkVolumeFiles } from '../../core/block/check-files.ts'
import { AggregateError } from '../../core/block/errors.ts'
import { decodeEntry } from '../../core/block/volume-table.ts'
import { BLOCK_BYTES } from '../../core/env/device.ts'
import { putU32 } from '../../core/fs/bytes.ts'
import { Stack } from '../../core/fs/testing/stack.ts'
import { Mailbox } from '../../core/pair/mailbox.ts'
import type { LogDevice } from '../../core/nvlog/log-device.ts'
import type { SimMedium } from '../../sim/device.ts'
import type { SimRandom } from '../../sim/world.ts'
import { mutate } from '../target.ts'
import type { Target } from '../target.ts'

const TRIES = 12
const SEALED_FROM = 12

let base: Promise<readonly SimMedium[]> | undefined
async function makeBase(): Promise<readonly SimMedium[]> {
  const stack = new Stack(3)
  await stack.make()
  const root = await stack.fs.rootHandle()
  await stack.fs.mkdir({ uid: 0, gid: 0, gids: [] }, root, 'dir', {})
  await stack.consistencyPoint()
  return stack.bed.media[0]!.map((medium) => medium.copy())
}

/** A label or a root. */
async function plex(random: SimRandom): Promise<void> {
  base ??= makeBase()
  const stack = new Stack(3)
  const media = (await base).map((medium) => medium.copy())
  stack.bed.media[0]!.splice(0, Infinity, ...media)
  const { crc32 } = stack.bed.env
  const places: [SimMedium, number][] = media.flatMap((medium): [SimMedium, number][] => [
    [medium, 0],
    [medium, medium.blocks - 1],
  ])
  places.push([media[0]!, 1], [media[0]!, 2])
  for (let times = 1 + random.below(3); times > 0; times--) {
    const [medium, block] = random.pick(places)
    const bytes = (medium.read(block) ?? new Uint8Array(BLOCK_BYTES)).slice()
    mutate(random, bytes, SEALED_FROM, random.chance(0.8) ? 1600 : BLOCK_BYTES)
    if (random.chance(0.9)) putU32(bytes, 8, crc32(bytes.subarray(SEALED_FROM)))
    medium.stable.set(block, bytes)
  }
  stack.bed.attach()
  try {
    await checkAggregate(await stack.open(true), { checkFiles: checkVolumeFiles })
  } catch (error) {
    if (!(error instanceof AggregateError)) throw error
  }
}

function entry(random: SimRandom): void {
  const bytes = new Uint8Array(BLOCK_BYTES)
  bytes[0] = 1
  bytes[1] = 1 + random.below(2)
  bytes[385] = 6
  bytes[513] = 6
  const json = Buffer.from('{"export":{"path":"/v","rules":[]},"seed":1,"seconds":2}')
  bytes[1664] = json.length
  bytes.set(json, 1666)
  mutate(random, bytes, 0, random.chance(0.5) ? 700 : BLOCK_BYTES)
  mutate(random, bytes, 1664, 1800)
  decodeEntry(bytes)
}

/** What a mailbox holds, and what damage might make of it. */
async function mailbox(random: SimRandom): Promise<void> {
  const { env } = new Stack(3).bed
  const blocks = [new Uint8Array(BLOCK_BYTES), new Uint8Array(BLOCK_BYTES)]
  const device: LogDevice = {
    blocks: 2,
    read: (block, into) => {
      for (let i = 0; i * BLOCK_BYTES < into.length; i++) into.set(blocks[block + i]!, i * BLOCK_BYTES)
      return Promise.resolve()
    },
    write: (block, chunks) => {
      blocks[block]!.set(Buffer.concat(chunks))
      return Promise.resolve()
    },
  }
  const first = await Mailbox.open(env, device, 'pair')
  await first.changeSide('a', { state: 'Complete', logId: 7 })
  for (const bytes of blocks) {
    const length = new DataView(bytes.buffer).getUint32(16, true)
    const json = bytes.subarray(24, 24 + length)
    if (random.chance(0.5)) mutate(random, json)
    else
      json.set(Buffer.from(damagedJson(random, Buffer.from(json).toString()).padEnd(length).slice(0, length)))
    mutateHeader(random, bytes)
    const end = Math.min(BLOCK_BYTES, 24 + new DataView(bytes.buffer).getUint32(16, true))
    putU32(bytes, 20, env.crc32(bytes.subarray(24, end), env.crc32(bytes.subarray(0, 20))))
  }
  const found = await Mailbox.open(env, device, 'pair')
  const { fence, state } = found.side('a')
  if (typeof fence.epoch !== 'number' || typeof fence.incarnation !== 'number' || typeof state !== 'string') {
    throw new Error('a mailbox that makes no sense was believed')
  }
  await found.changeSide('a', { logId: 8 })
}

function mutateHeader(random: SimRandom, bytes: Uint8Array): void {
  if (random.chance(0.2)) mutate(random, bytes, 8, 20)
}

const VALUES = ['null', '[]', '{}', '0', '-1', '1e300', '"x"', 'true']

/** Replaces one value of a JSON text by another. */
function damagedJson(random: SimRandom, text: string): string {
  const places = [...text.matchAll(/:(\d+|"[^"]*"|null|\{)/g)]
  if (places.length === 0) return text
  const place = random.pick(places)
  if (place[1] === '{') return `${text.slice(0, place.index + 1)}${random.pick(VALUES)}}`
  return `${text.slice(0, place.index + 1)}${random.pick(VALUES)}${text.slice(place.index + place[0].length)}`
}

export const control: Target = {
  name: 'control',
  meaning: 'labels, roots, volume table entries, mailboxes, checksums fixed up',
  async run(random) {
    for (let i = 0; i < TRIES; i++) {
      await plex(random)
      entry(random)
      await mailbox(random)
    }
    return 3 * TRIES
  },
}

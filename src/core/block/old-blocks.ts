/**
 * The blocks of a traditional volume that one flexible volume of this aggregate was made from, in place (docs/conversion.md).
 *
 * They are PVBNs `first` … `end`-1: PVBN = first + VBN. Until the join they lie on the devices of the old aggregate, which nothing writes; then the devices are this
 * aggregate's. Their contexts are those of the old volume for ever. That form is good only through the identity pair, VVBN v at PVBN first + v, and
 * not of a later generation than the image at the fence; any other pair has the new form. No new block gets a VVBN below `total`, so no
 * identity pair is ever handed out again (C11).
 *
 * A block is *marked* once the volume's maps and the aggregate's have it: the scan does that. What is not marked costs nothing to let go.
 */
import type { BlockKind } from '../fs/block-store.ts'
import type { Json } from './codec.ts'
import type { Context, Identity } from './context.ts'
import type { Label } from './label.ts'
import { Layout } from './layout.ts'
import type { Range } from './space-map.ts'

/** Reads blocks of the old aggregate, by VBN. */
export interface OldReader {
  read(identity: Identity, vbn: number): Promise<Uint8Array | undefined>
  readMany(
    first: number,
    blocks: number,
    asked: readonly { readonly pvbn: number; readonly identity: Identity }[],
  ): Promise<(Uint8Array | undefined)[]>
  overwrite(vbn: number, content: Uint8Array): Promise<void>
}

/** In the properties of the aggregate's root, as long as the volume is there. */
export interface OldBlocksRecord {
  /** Index of the flexible volume. */
  readonly volume: number
  /** The aggregate that the devices came from, and the volume's index in it. */
  readonly aggregate: string
  readonly aggregateId: string
  readonly oldVolume: number
  /** Number of the consistency point at the fence. */
  readonly cp: number
  readonly first: number
  /** Sizes of the old devices in blocks. */
  readonly sizes: readonly number[]
  /** absent: blocks that are still to be built or marked may be there. built: there is none; the devices may join. joined: the root has the devices. undone: the volume is the old one again, what the new one had is being given back. */
  readonly state: 'absent' | 'built' | 'joined' | 'undone'
  /** Where the scan goes on: inode block of the inode file (-1: before the first), inode in it, leaf of its file. */
  readonly cursor: readonly [number, number, number]
  /** Blocks of the old volume, as it counted them, that are neither marked nor known to be gone. */
  readonly pending: number
  /** Names the cut-over; and when it was. */
  readonly cutOver: string
  /** Bytes of the changes that the volume's log records hold since then. */
  readonly changed: number
  /** Blocks that the scan built, and data blocks that it copied. */
  readonly built: number
  readonly copied: number
  /** Blocks that the new form was expected to take. */
  readonly estimate: number
}

export class OldBlocks {
  readonly record: OldBlocksRecord
  readonly layout: Layout
  state: OldBlocksRecord['state']
  cursor: OldBlocksRecord['cursor']
  pending: number
  changed: number
  built: number
  copied: number
  /** How the blocks are read until the devices join: those of the old aggregate, by VBN. */
  io: OldReader | undefined

  constructor(record: OldBlocksRecord) {
    this.record = record
    this.layout = new Layout(record.sizes)
    this.state = record.state
    this.cursor = record.cursor
    this.pending = record.pending
    this.changed = record.changed
    this.built = record.built
    this.copied = record.copied
  }

  static in(properties: Json): OldBlocks | undefined {
    const record = (properties as { readonly converted?: OldBlocksRecord }).converted
    return record && new OldBlocks(record)
  }

  get total(): number {
    return this.layout.end
  }

  get end(): number {
    return this.record.first + this.total
  }

  /** Where the blocks are that no device of this aggregate has. */
  get away(): Range | undefined {
    return this.state === 'joined' ? undefined : { first: this.record.first, end: this.end }
  }

  /** The devices of the old aggregate are this one's to read: that one is no volume of its own. */
  get holdsDevices(): boolean {
    return this.state !== 'undone'
  }

  has(pvbn: number): boolean {
    return pvbn >= this.record.first && pvbn < this.end
  }

  exists(pvbn: number): boolean {
    return this.has(pvbn) && this.layout.exists(pvbn - this.record.first)
  }

  /** True for a number that only a block of the old volume can have. */
  isOld(volume: number, bn: number): boolean {
    return volume === this.record.volume && bn < this.total
  }

  place(vbn: number, kind: BlockKind): { readonly pvbn: number; readonly identity: Identity } {
    const { first, oldVolume: volume, cp: latest } = this.record
    return { pvbn: first + vbn, identity: { volume, number: vbn, kind, place: vbn, latest } }
  }

  /** What a context of the old form says, in the new one; any other as it is. */
  translate(context: Context, pvbn: number): Context {
    const { first, oldVolume, volume, cp } = this.record
    const vbn = pvbn - first
    const isOld =
      this.has(pvbn) &&
      context.volume === oldVolume &&
      context.number === vbn &&
      context.pvbn === vbn &&
      context.generation <= cp
    return isOld ? { ...context, volume, number: vbn, pvbn } : context
  }

  /** `joining`: of the root that has the devices. */
  toJson(joining = false): Json {
    const { cursor, pending, changed, built, copied } = this
    const state = joining ? 'joined' : this.state
    return { ...this.record, state, cursor, pending, changed, built, copied }
  }
}

/**
 * The label of a device that joined, as it will be: until it is written the old one stands for it, because the root says so. Undefined for a label of
 * another device. `layout`: of the image.
 */
export function joinedLabel(
  label: Label,
  head: Label,
  old: OldBlocks | undefined,
  layout: Layout,
): Label | undefined {
  if (old?.state !== 'joined') return undefined
  const { aggregateId, first } = old.record
  const offset = layout.devices.findIndex((place) => place.first === first)
  if (label.aggregateId !== aggregateId || label.plex !== head.plex || offset < 0) return undefined
  return joinAs(label, head, offset, first)
}

/** The label of an old device as one of the image that `head` heads. */
export function joinAs(label: Label, head: Label, offset: number, first: number): Label {
  const { generation, blocks, dataBlocks, firstPvbn, position } = label
  return {
    ...head,
    generation,
    blocks,
    dataBlocks,
    firstPvbn: first + firstPvbn,
    position: offset + position,
  }
}

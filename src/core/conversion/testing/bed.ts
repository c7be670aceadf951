/** A traditional volume and an empty aggregate on simulated media, both plexes each; and files whose content is known. */
import { checkAggregate } from '../../block/check.ts'
import { checkVolumeFiles } from '../../block/check-files.ts'
import { Aggregate } from '../../block/aggregate.ts'
import { BufferCache } from '../../block/buffer-cache.ts'
import type { BrokenStorage } from '../../block/broken-storage.ts'
import { decodeLabel } from '../../block/label.ts'
import { LABEL_BLOCK } from '../../block/layout.ts'
import { readRoots } from '../../block/root.ts'
import { convertedOn, readPlex } from '../../block/plex-info.ts'
import { SPEC, testEnv } from '../../block/testing/bed.ts'
import type { Volume } from '../../block/volume.ts'
import { BLOCK_BYTES } from '../../env/device.ts'
import type { Device } from '../../env/device.ts'
import type { Env } from '../../env/env.ts'
import { BUILD_START } from '../../fs/build.ts'
import { env as fsEnv, good, MemoryJournal, ROOT } from '../../fs/testing/harness.ts'
import { FileSystem } from '../../fs/volume.ts'
import { seededRandom, SimDevice, SimMedium } from '../../../sim/device.ts'
import type { SimFaults } from '../../../sim/device.ts'
import { adopt, adoptionOf } from '../in-place.ts'
import type { Adoption } from '../in-place.ts'

type Files = Aggregate<FileSystem>

export const OLD = { ...SPEC, id: 'old-1', name: 'vol-t', type: 'Traditional' as const }
export const NEW = { ...SPEC, id: 'new-1', name: 'aggr1' }

export class ConversionBed {
  readonly env: Env
  readonly random
  readonly journal = new MemoryJournal()
  readonly oldMedia: SimMedium[][]
  readonly newMedia: SimMedium[][]
  oldDevices: SimDevice[][] = []
  newDevices: SimDevice[][] = []
  /** Undefined when its devices have joined. */
  source: Files | undefined
  target!: Files
  /** Logged: what a replay does between the image and the records. */
  adoption: { readonly adoption: Adoption; readonly record: number } | undefined
  /** The same of the way back. */
  undone: { readonly record: number } | undefined
  broken: BrokenStorage = {}
  writtenBehindOldLabels = 0
  private cutOvers = 0
  /** Bytes per fbn, by name of the file. */
  readonly model = new Map<string, Map<number, number>>()

  constructor(seed: number, oldSizes: readonly number[], newSizes: readonly number[]) {
    this.random = seededRandom(seed)
    this.env = testEnv(seed + 1)
    const media = (name: string, sizes: readonly number[]): SimMedium[][] =>
      [0, 1].map((plex) => sizes.map((blocks, i) => new SimMedium(`${name}-${plex}-${i}`, blocks)))
    this.oldMedia = media('old', oldSizes)
    this.newMedia = media('new', newSizes)
  }

  attach(oldFaults: SimFaults = {}, newFaults: SimFaults = {}): void {
    for (const plex of [...this.oldDevices, ...this.newDevices]) for (const device of plex) device.kill()
    const over = (media: SimMedium[][], faults: SimFaults): SimDevice[][] =>
      media.map((plex) => plex.map((medium) => new SimDevice(medium, { ...faults })))
    this.oldDevices = this.oldMedia.map((plex) =>
      plex.map((medium) => {
        const onWrite: SimFaults['onWrite'] = (block, blocks) => {
          this.watch(medium, block)
          return oldFaults.onWrite?.(block, blocks)
        }
        return new SimDevice(medium, { ...oldFaults, onWrite })
      }),
    )
    this.newDevices = over(this.newMedia, newFaults)
  }

  /** C2: behind a label of the old aggregate nothing is written from the fence on. */
  private watch(medium: SimMedium, block: number): void {
    const fenced = (this.target as Files | undefined)?.old?.holdsDevices === true
    if (!fenced || block === LABEL_BLOCK || block === medium.blocks - 1) return
    const label = decodeLabel(this.env.crc32, medium.read(LABEL_BLOCK) ?? new Uint8Array(BLOCK_BYTES))
    if (label !== undefined && label !== 'version' && label.aggregateId === OLD.id)
      this.writtenBehindOldLabels += 1
  }

  /** Blank devices, on both plexes: they wait when the aggregate is opened again. */
  add(sizes: readonly number[]): void {
    for (const [plex, media] of this.newMedia.entries())
      for (const blocks of sizes) media.push(new SimMedium(`new-${plex}-${media.length}`, blocks))
  }

  /** Takes in what waits, at the next consistency point. */
  async grow(): Promise<void> {
    const own = this.target.waiting.map(({ device }) => device)
    const plexes = [0, 1].map((plex) => [...this.newDevices[plex]!, ...this.oldDevices[plex]!])
    const mine = plexes.findIndex((devices) => devices.includes(own[0] as SimDevice))
    const theirs = own.map((device) => plexes[1 - mine]![plexes[mine]!.indexOf(device as SimDevice)]!)
    await this.target.prepareGrowth(own, theirs)
  }

  async format(): Promise<void> {
    this.attach()
    await Aggregate.format(this.env, OLD, this.oldDevices)
    await Aggregate.format(this.env, NEW, this.newDevices)
    await this.open()
    this.source!.createVolume({ id: 'v', name: 'v', sizeBytes: 0, fsid: 5 })
    await this.consistencyPoint()
  }

  /** Both aggregates as a new process on `plex` finds them, with the other plex. */
  async open(plex = 0): Promise<void> {
    const [own, other] = [plex, 1 - plex]
    const joined = await this.joined(own)
    const [ours, theirs] = [own, other].map((index) => [
      ...this.newDevices[index]!,
      ...(joined ? this.oldDevices[index]! : []),
    ]) as [SimDevice[], SimDevice[]]
    const [root, copy] = await Promise.all(
      [own, other].map(
        async (index) => (await readRoots(this.env, this.newDevices[index]![0]!))[0]!.root.image,
      ),
    )
    const equal = root === copy
    this.target = await this.openOn(ours, equal ? theirs : undefined)
    this.source = joined ? undefined : await this.openOn(this.oldDevices[own]!, this.oldDevices[other])
    if (this.source !== undefined && this.target.old !== undefined) this.target.attachOld(this.source.io)
    const { covers } = this.target.root
    for (const [i, record] of this.journal.records.entries()) {
      if (i < covers) continue
      this.repeat(i)
      await this.fs.replay(record)
    }
    this.repeat(Infinity)
    if (equal) return
    // As a pair does with a copy that is not the same image: the other filer's devices in the order of the own image, whatever is on them.
    const inOrder = this.target.own.devices.map((device) => theirs[ours.indexOf(device as SimDevice)]!)
    await this.target.attachPlex(inOrder, 'stale')
    await this.target.resync()
    await this.consistencyPoint()
  }

  /** What was logged in front of this record, and is not in the image. */
  private repeat(record: number): void {
    const { adoption, undone } = this
    if (adoption === undefined || adoption.record > record) return
    if (this.target.old?.record.cutOver !== adoption.adoption.record.cutOver) this.adopt()
    if (undone !== undefined && undone.record <= record && this.target.old!.holdsDevices) this.undo()
  }

  private async joined(plex: number, devices = this.newDevices): Promise<boolean> {
    return (await convertedOn(this.env, devices[plex]!))?.state === 'joined'
  }

  /** Of the image, in its order. */
  private async imageOf(devices: readonly SimDevice[]): Promise<readonly Device[]> {
    return (await readPlex(this.env, devices))!.devices
  }

  private async openOn(own: SimDevice[], mirror?: SimDevice[], readOnly = false): Promise<Files> {
    return await Aggregate.open<FileSystem>(this.env, own, {
      cache: new BufferCache(300 * BLOCK_BYTES),
      content: (volume, root) => this.content(volume, root),
      readOnly,
      broken: this.broken,
      ...(mirror === undefined ? {} : { mirror: await this.imageOf(mirror) }),
    })
  }

  private content(volume: Volume<FileSystem>, root: Uint8Array | undefined): FileSystem {
    const time = { seconds: 1, nanoseconds: 0 }
    const spec = { fsid: volume.fsid, hashSeed: 3, time, mode: 0o777, uid: 0, gid: 0 }
    return new FileSystem({
      env: fsEnv,
      store: volume,
      journal: this.journal,
      volume: volume.index,
      root: root ?? FileSystem.make(volume, spec),
      space: () => ({ totalBytes: 0, freeBytes: 0 }),
    })
  }

  get volume(): Volume<FileSystem> {
    return (this.target.volume('v') ?? this.source!.volume('v'))!
  }

  get fs(): FileSystem {
    return this.volume.content
  }

  /** Of the target, and of the source as long as it is not fenced. */
  async consistencyPoint({ labels = true } = {}): Promise<void> {
    const covers = this.journal.records.length
    const parts =
      this.target.old?.holdsDevices !== true && this.source ? [this.source, this.target] : [this.target]
    const cp = Math.max(this.target.root.cp, this.source?.root.cp ?? 0) + 1
    const points = parts.map((aggregate) => aggregate.freeze({ cp, epoch: 1, covers }))
    for (const point of points) await point.write()
    for (const point of points) await point.commitRoot(0)
    for (const point of points) await point.commitRoot(1)
    for (const point of points) await point.complete()
    if (this.target.old?.state === 'joined') {
      this.source = undefined
      if (labels) await this.target.finishJoin()
    }
  }

  /** The fence is the last image: nothing is under way here. */
  async cutOver(): Promise<void> {
    await this.consistencyPoint()
    this.adoptNow()
  }

  adoptNow(): void {
    const adoption = adoptionOf(this.source!, this.volume, this.target, `${(this.cutOvers += 1)}`, 0)
    this.undone = undefined
    this.adoption = { adoption, record: this.journal.records.length }
    this.adopt()
  }

  /** The old volume goes on. */
  undo(): void {
    this.undone ??= { record: this.journal.records.length }
    this.target.undoAdoption()
  }

  private adopt(): void {
    adopt(this.target, this.source!, this.adoption!.adoption, {}, (volume, root) =>
      this.content(volume, root),
    )
  }

  /** One step of the scan; true when all was visited. */
  async step(limit = 50): Promise<boolean> {
    const old = this.target.old!
    const { cursor, noSpace } = await this.fs.build(old.cursor, limit, {
      leaf: (bn) => void this.volume.mark(bn),
      built: () => (old.built += 1),
      copied: (blocks) => (old.copied += blocks),
    })
    if (noSpace) throw new Error('no space')
    old.cursor = cursor ?? BUILD_START
    if (cursor === undefined) old.state = 'built'
    return cursor === undefined
  }

  async scan(limit = 50): Promise<void> {
    while (!(await this.step(limit)))
      if (this.target.dirtyBytes > 100 * BLOCK_BYTES) await this.consistencyPoint()
    await this.consistencyPoint()
  }

  async join(): Promise<void> {
    if (this.target.old!.state === 'joined') return
    if (!this.target.prepareJoin(this.source!)) throw new Error('not possible now')
    await this.consistencyPoint()
  }

  crash(): void {
    const media = [...this.oldMedia, ...this.newMedia].flat()
    for (const plex of [...this.oldDevices, ...this.newDevices]) for (const device of plex) device.kill()
    for (const medium of media) medium.crash(this.random)
  }

  // Files.

  private async handle(name: string): Promise<Uint8Array> {
    const root = await this.fs.rootHandle()
    const found = await this.fs.lookup(ROOT, root, name)
    if (found.ok) return found.object.handle
    return (await good(this.fs.create(ROOT, root, name, { mode: 'UNCHECKED', attributes: { mode: 0o666 } })))
      .object.handle
  }

  async write(name: string, fbn: number, stamp: number): Promise<string> {
    const handle = await this.handle(name)
    const written = await this.fs.write(
      ROOT,
      handle,
      fbn * BLOCK_BYTES,
      blockOf(name, fbn, stamp),
      'FILE_SYNC',
    )
    if (!written.ok) return written.status
    const file = this.model.get(name) ?? new Map<number, number>()
    this.model.set(name, file.set(fbn, stamp))
    return 'OK'
  }

  async read(name: string, fbn: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(BLOCK_BYTES)
    const handle = await this.handle(name)
    await good(this.fs.read(ROOT, handle, fbn * BLOCK_BYTES, BLOCK_BYTES, () => bytes))
    return bytes
  }

  async truncate(name: string, blocks: number): Promise<void> {
    await good(this.fs.setattr(ROOT, await this.handle(name), { size: blocks * BLOCK_BYTES }))
    const file = this.model.get(name)!
    for (const fbn of [...file.keys()]) if (fbn >= blocks) file.delete(fbn)
  }

  async remove(name: string): Promise<void> {
    await good(this.fs.remove(ROOT, await this.fs.rootHandle(), name))
    this.model.delete(name)
  }

  /** What is not as it was written. */
  async differences(): Promise<string[]> {
    const found: string[] = []
    for (const [name, blocks] of this.model) {
      const handle = await this.handle(name)
      const { attributes } = await good(this.fs.getattr(handle))
      const end = attributes.size / BLOCK_BYTES
      const asked = new Set([...blocks.keys(), ...[...blocks.keys()].flatMap((fbn) => [fbn - 1, fbn + 1])])
      for (const fbn of asked) {
        if (fbn < 0 || fbn >= end) continue
        const bytes = new Uint8Array(BLOCK_BYTES)
        const read = await this.fs.read(ROOT, handle, fbn * BLOCK_BYTES, BLOCK_BYTES, () => bytes)
        const stamp = blocks.get(fbn)
        const wanted = stamp === undefined ? new Uint8Array(BLOCK_BYTES) : blockOf(name, fbn, stamp)
        if (!read.ok) found.push(`${name} block ${fbn}: ${read.status}`)
        else if (Buffer.compare(bytes, wanted) !== 0) found.push(`${name} block ${fbn} differs`)
      }
    }
    return found
  }

  /** What a checker says of the images on one plex. */
  async problems(plex = 0): Promise<readonly string[]> {
    const over = (media: SimMedium[]): SimDevice[] => media.map((medium) => new SimDevice(medium))
    const [old, fresh] = [over(this.oldMedia[plex]!), over(this.newMedia[plex]!)]
    const joined = await this.joined(0, [fresh])
    const target = await this.openOn([...fresh, ...(joined ? old : [])], undefined, true)
    const problems: string[] = []
    if (!joined) {
      const source = await this.openOn(old, undefined, true)
      if (target.old !== undefined) target.attachOld(source.io)
      problems.push(...(await checkAggregate(source, { checkFiles: checkVolumeFiles })).problems)
    }
    problems.push(...(await checkAggregate(target, { checkFiles: checkVolumeFiles })).problems)
    return problems
  }
}

export function blockOf(name: string, fbn: number, stamp: number): Uint8Array {
  const line = `${name}/${fbn}/${stamp};`
  return new Uint8Array(Buffer.from(line.repeat(Math.ceil(BLOCK_BYTES / line.length)).slice(0, BLOCK_BYTES)))
}

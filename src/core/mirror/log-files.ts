/**
 * The log files of a mirror at its destination: files of a hidden volume, one for each epoch. An append is an ordinary write there, so it is in the logs of both filers of
 * the destination when it is answered, replay and takeover need nothing of their own, and a consistency point writes what is still there.
 */
import type { Crc32 } from '../env/env.ts'
import type { Caller, Vfs, WriteResult } from '../vfs/vfs.ts'
import { IO_BYTES_MAX } from '../vfs/vfs.ts'
import type { MaybePromise } from '../std/maybe.ts'
import type { MirrorFrame } from './frames.ts'
import { decodeFrame, encodeFrame } from './frames.ts'

/** What is asked of the hidden volume. */
export type LogVolume = Pick<
  Vfs,
  'create' | 'lookup' | 'write' | 'read' | 'setattr' | 'remove' | 'readdir'
> & { rootHandle(): MaybePromise<Uint8Array> }

const ROOT: Caller = { uid: 0, gid: 0, gids: [] }
const NAME = /^e(\d+)$/
const nameOf = (epoch: number): string => `e${epoch}`

interface LogFile {
  readonly epoch: number
  readonly handle: Promise<Uint8Array | undefined>
  bytes: number
}

export class MirrorLogFiles {
  readonly #crc32: Crc32
  readonly #volume: LogVolume
  readonly #files = new Map<number, LogFile>()

  constructor(crc32: Crc32, volume: LogVolume) {
    this.#crc32 = crc32
    this.#volume = volume
  }

  /** Epochs that have a file, in order. */
  get epochs(): readonly number[] {
    return [...this.#files.keys()].sort((a, b) => a - b)
  }

  /** Finds what is there, and cuts what was torn off at the end of a file: it was never acknowledged. */
  async open(): Promise<void> {
    const root = await this.#volume.rootHandle()
    const verifier = new Uint8Array(8)
    for (let cookie = 0; ;) {
      const page = await this.#volume.readdir(ROOT, root, cookie, verifier, 100, false)
      if (!page.ok) throw new Error(`log files cannot be listed: ${page.status}`)
      for (const entry of page.entries) {
        cookie = entry.cookie
        const epoch = NAME.exec(entry.name)?.[1]
        if (epoch === undefined) continue
        const found = await this.#volume.lookup(ROOT, root, entry.name)
        if (!found.ok) throw new Error(`log file ${entry.name} cannot be opened: ${found.status}`)
        const file = {
          epoch: Number(epoch),
          handle: Promise.resolve(found.object.handle),
          bytes: found.object.attributes.size,
        }
        this.#files.set(file.epoch, file)
      }
      if (page.eof || page.entries.length === 0) break
    }
    for (const epoch of this.epochs) {
      const file = this.#files.get(epoch)!
      let whole = 0
      for (const { end } of await this.#framesOf(file)) whole = end
      if (whole < file.bytes) await this.#truncate(file, whole)
    }
  }

  /** All frames, in the order of their epochs. */
  async frames(from = 0): Promise<MirrorFrame[]> {
    const all: MirrorFrame[] = []
    for (const epoch of this.epochs) {
      if (epoch < from) continue
      for (const { frame } of await this.#framesOf(this.#files.get(epoch)!)) all.push(frame)
    }
    return all
  }

  /** True when it is durable on both filers; false if there is no room for it. Appends are done in the order of the calls. */
  async append(epoch: number, frame: Uint8Array): Promise<boolean> {
    let file = this.#files.get(epoch)
    if (file === undefined) {
      file = { epoch, handle: this.#create(epoch), bytes: 0 }
      this.#files.set(epoch, file)
    }
    const at = file.bytes
    file.bytes += frame.length
    const handle = await file.handle
    if (handle === undefined) return false
    const pieces: MaybePromise<WriteResult>[] = []
    for (let from = 0; from < frame.length; from += IO_BYTES_MAX) {
      const piece = frame.subarray(from, from + IO_BYTES_MAX)
      pieces.push(this.#volume.write(ROOT, handle, at + from, piece, 'FILE_SYNC'))
    }
    for (const piece of pieces) if (!(await piece).ok) return false
    return true
  }

  /** Nothing beyond record `last` is there any more. */
  async cut(last: number): Promise<void> {
    for (const epoch of this.epochs) {
      const file = this.#files.get(epoch)!
      let kept = 0
      for (const { frame, end } of await this.#framesOf(file)) {
        if (frame.last <= last) {
          kept = end
          continue
        }
        await this.#truncate(file, kept)
        const records = frame.records.filter(({ seq }) => seq <= last)
        const part = { ...frame, records, last: records.at(-1)?.seq ?? 0 }
        if (records.length > 0) await this.append(epoch, encodeFrame(this.#crc32, part))
        break
      }
    }
  }

  async remove(upTo: number): Promise<void> {
    const root = await this.#volume.rootHandle()
    for (const epoch of this.epochs) {
      if (epoch > upTo) return
      this.#files.delete(epoch)
      await this.#volume.remove(ROOT, root, nameOf(epoch))
    }
  }

  async #create(epoch: number): Promise<Uint8Array | undefined> {
    const root = await this.#volume.rootHandle()
    const made = await this.#volume.create(ROOT, root, nameOf(epoch), {
      mode: 'UNCHECKED',
      attributes: { mode: 0o600 },
    })
    return made.ok ? made.object?.handle : undefined
  }

  async #truncate(file: LogFile, bytes: number): Promise<void> {
    const handle = await file.handle
    if (handle === undefined || file.bytes === bytes) return
    const cut = await this.#volume.setattr(ROOT, handle, { size: bytes })
    if (!cut.ok) throw new Error(`a log file cannot be cut: ${cut.status}`)
    file.bytes = bytes
  }

  async #framesOf(file: LogFile): Promise<{ frame: MirrorFrame; end: number }[]> {
    const handle = await file.handle
    if (handle === undefined) return []
    const bytes = new Uint8Array(file.bytes)
    for (let at = 0; at < bytes.length;) {
      const part = await this.#volume.read(
        ROOT,
        handle,
        at,
        Math.min(IO_BYTES_MAX, bytes.length - at),
        (size) => new Uint8Array(size),
      )
      if (!part.ok) throw new Error(`a log file cannot be read: ${part.status}`)
      if (part.data.length === 0) break
      bytes.set(part.data, at)
      at += part.data.length
    }
    const frames: { frame: MirrorFrame; end: number }[] = []
    for (let at = 0; ;) {
      const found = decodeFrame(this.#crc32, bytes, at)
      if (found === undefined) return frames
      at += found.bytes
      frames.push({ frame: found.frame, end: at })
    }
  }
}

/**
 * What a filer must not forget: the highest epochs it knows, what it promised, whether its copies are whole (docs/SPEC-log.md).
 * Two alternating checksummed blocks. A change is durable before anything that relies on it is done.
 *
 * A mailbox that is lost or foreign is a filer that forgot its promises: `open` says so, and such a filer grants, accepts and
 * serves nothing until it has been resynced (H9).
 */
import { BLOCK_BYTES } from '../env/device.ts'
import type { Env } from '../env/env.ts'
import type { Fence } from '../connection/client.ts'
import type { LogDevice } from '../nvlog/log-device.ts'
import { viewOf } from '../nvlog/batch.ts'
import { assert } from '../std/assert.ts'
import { decodeJson, encodeJson } from '../std/ascii-json.ts'
import type { SideRecord } from './vote.ts'

/**
 * New: this filer has no copy and promised nothing. Formatting: it is making the first, empty copy, which nobody has seen.
 * Resyncing: a copy is being filled, and worth nothing until that ends. LogLost: the image is whole, but its log was in memory only, and the process ended.
 */
export type CopyState = 'New' | 'Formatting' | 'Complete' | 'Resyncing' | 'Damaged' | 'LogLost'

export interface SideMail {
  readonly fence: Fence
  readonly record: SideRecord | null
  readonly state: CopyState
  readonly logId: number
  /** Aggregates that the side has, wherever they are configured. Absent in mailboxes of earlier versions: those that have labels. */
  readonly aggregates?: readonly string[]
  /** Part of the log may be in memory only: what this filer must know of itself when it starts again. */
  readonly memoryLog?: boolean
  /** Seconds of the wall clock when this copy was last known to have everything that was acknowledged. */
  readonly currentAt?: number
  /** A person accepted for this epoch that what the copy here lacks is lost. */
  readonly loss?: AcceptedLoss | undefined
}
export interface AcceptedLoss {
  /** Of the record that was overruled. */
  readonly epoch: number
  /** What was acknowledged after this second may be missing. */
  readonly dataFromSeconds: number
}
export interface Mail {
  readonly pairUid: string
  readonly incarnation: number
  readonly beat: number
  readonly sides: Readonly<Record<string, SideMail>>
}

const STATES: readonly CopyState[] = ['New', 'Formatting', 'Complete', 'Resyncing', 'Damaged', 'LogLost']
const MAGIC = 0x424d4e54
const VERSION = 1
const HEAD_BYTES = 24
/** Kept free by what may be refused, for what may not. */
const SPARE_BYTES = 512
const NO_MAIL: SideMail = { fence: { epoch: 0, incarnation: 0 }, record: null, state: 'New', logId: 0 }

function encode(mail: Mail, generation: number, env: Env): Uint8Array {
  const json = encodeJson(mail)
  assert(json.length <= BLOCK_BYTES - HEAD_BYTES, 'mailbox is larger than a block')
  const block = new Uint8Array(BLOCK_BYTES)
  const view = viewOf(block)
  view.setUint32(0, MAGIC, true)
  view.setUint32(4, VERSION, true)
  view.setUint32(8, generation >>> 0, true)
  view.setUint32(12, Math.floor(generation / 2 ** 32), true)
  view.setUint32(16, json.length, true)
  view.setUint32(20, env.crc32(json, env.crc32(block.subarray(0, 20))), true)
  block.set(json, HEAD_BYTES)
  return block
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

function isSideMail(value: unknown): value is SideMail {
  if (!isObject(value) || !isObject(value['fence'])) return false
  const { fence, record, state, logId } = value
  const isFence = isObject(fence) && isCount(fence['epoch']) && isCount(fence['incarnation'])
  const isRecord = record === null || (isObject(record) && isCount(record['epoch']))
  return isFence && isRecord && isCount(logId) && STATES.includes(state as CopyState)
}

function isMail(value: unknown): value is Mail {
  return (
    isObject(value) &&
    typeof value['pairUid'] === 'string' &&
    isCount(value['incarnation']) &&
    isCount(value['beat']) &&
    isObject(value['sides']) &&
    Object.values(value['sides']).every(isSideMail)
  )
}

/** `mail` is undefined if it makes no sense, although its checksum holds. */
function decode(block: Uint8Array, env: Env): { generation: number; mail: Mail | undefined } | undefined {
  const view = viewOf(block)
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== VERSION) return undefined
  const bytes = view.getUint32(16, true)
  if (bytes > BLOCK_BYTES - HEAD_BYTES) return undefined
  const json = block.subarray(HEAD_BYTES, HEAD_BYTES + bytes)
  if (view.getUint32(20, true) !== env.crc32(json, env.crc32(block.subarray(0, 20)))) return undefined
  const mail = decodeJson(json)
  return {
    generation: view.getUint32(12, true) * 2 ** 32 + view.getUint32(8, true),
    mail: isMail(mail) ? mail : undefined,
  }
}

export type MailboxOrigin = 'FOUND' | 'BLANK' | 'FOREIGN'

export class Mailbox {
  readonly #env: Env
  readonly #device: LogDevice
  #generation: number
  #mail: Mail
  #writing: Promise<void> | undefined
  #again: Promise<void> | undefined
  /** From the second write on: the first one makes this incarnation the newest. */
  #checked = false
  /** What was found at the start; FOREIGN forgets what another pair wrote, or what makes no sense, and nothing may be made anew over it. */
  readonly origin: MailboxOrigin

  private constructor(env: Env, device: LogDevice, mail: Mail, generation: number, origin: MailboxOrigin) {
    this.#env = env
    this.#device = device
    this.#mail = mail
    this.#generation = generation
    this.origin = origin
  }

  /** Reads the mailbox and durably adds 1 to the incarnation. */
  static async open(env: Env, device: LogDevice, pairUid: string): Promise<Mailbox> {
    const blocks = new Uint8Array(2 * BLOCK_BYTES)
    await device.read(0, blocks)
    const found = [0, 1]
      .map((n) => decode(blocks.subarray(n * BLOCK_BYTES, (n + 1) * BLOCK_BYTES), env))
      .filter((one) => one !== undefined)
      .sort((one, two) => two.generation - one.generation)[0]
    const origin = !found ? 'BLANK' : found.mail?.pairUid === pairUid ? 'FOUND' : 'FOREIGN'
    const old: Mail = origin === 'FOUND' ? found!.mail! : { pairUid, incarnation: 0, beat: 0, sides: {} }
    // Without a stored incarnation an earlier one may still be known to the partner: begin far above it.
    const base = origin === 'FOUND' ? old.incarnation : env.clock.wall().seconds % 2 ** 31
    const mail = { ...old, incarnation: base + 1 }
    const box = new Mailbox(env, device, mail, found?.generation ?? 0, origin)
    await box.#store()
    box.#checked = true
    return box
  }

  get incarnation(): number {
    return this.#mail.incarnation
  }
  get beat(): number {
    return this.#mail.beat
  }
  side(name: string): SideMail {
    return this.#mail.sides[name] ?? NO_MAIL
  }

  /** The change counts in memory at once; the promise resolves when it is durable. */
  changeSide(name: string, change: Partial<SideMail>): Promise<void> {
    this.#mail = {
      ...this.#mail,
      sides: { ...this.#mail.sides, [name]: { ...this.side(name), ...change } },
    }
    return this.#store()
  }
  /** Whether this list has room beside everything else, also when records and fences grow. */
  hasRoom(name: string, aggregates: readonly string[]): boolean {
    const sides = { ...this.#mail.sides, [name]: { ...this.side(name), aggregates } }
    return encodeJson({ ...this.#mail, sides }).length <= BLOCK_BYTES - HEAD_BYTES - SPARE_BYTES
  }
  sawBeat(beat: number): Promise<void> {
    if (beat <= this.#mail.beat) return Promise.resolve()
    this.#mail = { ...this.#mail, beat }
    return this.#store()
  }

  /**
   * Rejects when another incarnation of this filer has written the mailbox: then this one must not answer any more. (Two processes of one filer are
   * kept apart by the lock on the log volume, where that works.)
   */
  async verify(): Promise<void> {
    for (const found of await peekMailbox(this.#env, this.#device)) {
      if (
        found?.mail &&
        found.mail.pairUid === this.#mail.pairUid &&
        found.mail.incarnation > this.incarnation
      ) {
        throw new Error(
          `incarnation ${found.mail.incarnation} of this filer runs; this is ${this.incarnation}`,
        )
      }
    }
  }

  /** One write at a time; changes that come meanwhile share the next. */
  #store(): Promise<void> {
    if (!this.#writing) {
      this.#writing = this.#write()
      return this.#writing
    }
    this.#again ??= this.#writing.then(() => {
      this.#again = undefined
      this.#writing = this.#write()
      return this.#writing
    })
    return this.#again
  }

  async #write(): Promise<void> {
    if (this.#checked) await this.verify()
    this.#generation += 1
    await this.#device.write(this.#generation % 2, [encode(this.#mail, this.#generation, this.#env)])
    if (!this.#again) this.#writing = undefined
  }
}

/** What both blocks of a mailbox hold, changing nothing: for looking at it. `mail` is undefined for what makes no sense; a block is undefined that is not whole. */
export async function peekMailbox(
  env: Env,
  device: Pick<LogDevice, 'read'>,
): Promise<readonly ({ readonly generation: number; readonly mail: Mail | undefined } | undefined)[]> {
  const blocks = new Uint8Array(2 * BLOCK_BYTES)
  await device.read(0, blocks)
  return [0, 1].map((n) => decode(blocks.subarray(n * BLOCK_BYTES, (n + 1) * BLOCK_BYTES), env))
}

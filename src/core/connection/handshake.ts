/**
 * The liveness proof of one driver (US 7,716,323): each filer keeps a status page that the other may read and write
 * before anything else works. Each runs four operations over the stream that it dialled, each after the one before has
 * succeeded: read, write, read, write. Read 1 shows that the partner can be reached, and who it is; write 1 leaves our
 * incarnation there; read 2 must show the same partner as read 1 *and* our own incarnation back, so a restart in between
 * is caught; write 2 posts LIVE. Both filers do this; none is master.
 *
 * Invariants: `linked` holds only if we have proven the partner's present session and the partner has proven ours.
 * The page accepts LIVE only from a proof about its own present incarnation and session.
 *
 * Not here: streams, time, what follows (hello, client lists).
 */
import type { Refusal } from './client.ts'
import type { ControlFrame, PageState, StatusPage } from './frames.ts'

export interface Identity {
  readonly link: string
  readonly systemId: string
  readonly partnerId: string
  readonly version: number
  readonly incarnation: number
}

export type Step =
  | { readonly send: ControlFrame }
  | { readonly fail: string; readonly refusal?: Refusal }
  | { readonly done: true }
  | undefined

const wrongPeer = (fail: string): Step => ({ fail, refusal: 'WrongPeer' })

type FrameOf<K extends ControlFrame['kind']> = Extract<ControlFrame, { kind: K }>

interface Seen {
  readonly incarnation: number
  readonly session: number
}

export class Handshake {
  readonly session: number
  readonly #identity: Identity
  #id = 0
  #step: 0 | 1 | 2 | 3 | 4 = 0
  #first: Seen | undefined
  #proven: Seen | undefined
  /** Our page, as far as the partner writes it. */
  #written: (Seen & { readonly state: PageState }) | undefined

  constructor(identity: Identity, session: number) {
    this.#identity = identity
    this.session = session
  }

  get proven(): boolean {
    return this.#proven !== undefined
  }

  /** Both proofs are complete and about each other. */
  get linked(): boolean {
    const { session } = this.#written ?? {}
    return this.#proven !== undefined && this.#written?.state === 'LIVE' && session === this.#proven.session
  }

  get peerIncarnation(): number | undefined {
    return this.#proven?.incarnation
  }

  /** Starts our proof, from its first step. */
  begin(): ControlFrame {
    this.#step = 1
    this.#first = undefined
    this.#proven = undefined
    return this.#read()
  }

  /** The partner's stream is gone, and with it what it wrote. */
  forgetPartner(): void {
    this.#written = undefined
  }

  onPage(page: FrameOf<'status-page'>): Step {
    if (page.id !== this.#id) return undefined
    const { link, partnerId, version } = this.#identity
    if (page.link !== link) return wrongPeer(`reached driver ${page.link} instead of ${link}`)
    if (page.systemId !== partnerId) return wrongPeer(`reached ${page.systemId} instead of ${partnerId}`)
    if (page.version !== version) {
      return {
        fail: `partner speaks version ${page.version}, this filer ${version}`,
        refusal: 'VersionMismatch',
      }
    }
    if (this.#step === 1) {
      this.#first = { incarnation: page.incarnation, session: page.session }
      this.#step = 2
      return { send: this.#write('BOOT', this.#first) }
    }
    if (this.#step !== 3 || this.#first === undefined) return { fail: 'page out of turn' }
    if (page.incarnation !== this.#first.incarnation) return { fail: 'partner restarted during the proof' }
    if (page.session !== this.#first.session) return { send: this.begin() }
    if (page.echoIncarnation !== this.#identity.incarnation || page.echoSession !== this.session) {
      return { fail: 'partner did not echo what was written' }
    }
    this.#step = 4
    return { send: this.#write('LIVE', this.#first) }
  }

  onWritten(written: FrameOf<'status-written'>): Step {
    if (written.id !== this.#id) return undefined
    if (this.#step === 2) {
      this.#step = 3
      return { send: this.#read() }
    }
    if (this.#step !== 4 || this.#first === undefined) return { fail: 'completion out of turn' }
    // Not accepted: the partner has started over since read 2, so the proof is about somebody gone.
    if (!written.accepted) return { send: this.begin() }
    this.#step = 0
    this.#proven = this.#first
    return { done: true }
  }

  /** The partner reads our page. */
  onRead(read: FrameOf<'status-read'>): Step {
    const { link, systemId, partnerId, version, incarnation } = this.#identity
    if (read.link !== link) return wrongPeer(`called by driver ${read.link} on ${link}`)
    if (read.systemId !== partnerId) return wrongPeer(`called by ${read.systemId} instead of ${partnerId}`)
    const page: StatusPage = {
      link,
      systemId,
      version,
      incarnation,
      session: this.session,
      echoIncarnation: this.#written?.incarnation ?? 0,
      echoSession: this.#written?.session ?? 0,
    }
    return { send: { kind: 'status-page', id: read.id, ...page } }
  }

  /** The partner writes our page. */
  onWrite(write: FrameOf<'status-write'>): Step {
    const mine = write.peerIncarnation === this.#identity.incarnation && write.peerSession === this.session
    const accepted = write.state === 'BOOT' || mine
    if (accepted) {
      this.#written = { incarnation: write.incarnation, session: write.session, state: write.state }
    }
    return { send: { kind: 'status-written', id: write.id, accepted } }
  }

  /** The partner's present session is not the one that our proof was about: prove again. */
  get outdated(): boolean {
    return (
      this.#proven !== undefined &&
      this.#written !== undefined &&
      this.#written.session !== this.#proven.session
    )
  }

  #read(): ControlFrame {
    this.#id++
    return {
      kind: 'status-read',
      id: this.#id,
      link: this.#identity.link,
      systemId: this.#identity.systemId,
    }
  }

  #write(state: PageState, about: Seen): ControlFrame {
    this.#id++
    return {
      kind: 'status-write',
      id: this.#id,
      incarnation: this.#identity.incarnation,
      session: this.session,
      state,
      peerIncarnation: about.incarnation,
      peerSession: about.session,
    }
  }
}

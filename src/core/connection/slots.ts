/**
 * Opening, moving and closing channels: one slot per client and index, which outlives generations.
 *
 * States: REQUESTED (registered, not by both or no driver) → OPENING → OPEN → READY → RECOVERING (generation dead, the
 * next is due) → OPENING … | CLOSING → gone.
 *
 * Who does what: the two managers are equal, but exactly one must choose driver and generation of a channel; it is the one
 * with the lesser name (`leads`). It sends open; the other answers opened; ready goes from the leader over every driver of
 * the channel, then back the same way. The leader is up with the last ready of the other, the other as soon as it has all
 * of the leader's and has sent its own: neither client sees `up` before both sides have sent READY.
 *
 * Invariants: generations of a channel only grow; every `up` ends in exactly one `error` or `down`; a port belongs to one
 * generation and is gone with it; no generation opens while work that an older one began in a region is under way.
 */
import type { ChannelClient, ChannelStatus } from './client.ts'
import { ChannelEnd } from './channel.ts'
import type { EndOwner } from './channel.ts'
import type { ChannelName, ClientEntry, ControlFrame, DataFrame, ReplyFrame } from './frames.ts'
import type { Link } from './link.ts'
import { misplaced, place } from './placement.ts'
import type { BrokenConnection, ConnectionTimes } from './options.ts'
import { Ports } from './ports.ts'
import { sameRegions, Slot, unwanted } from './slot.ts'
import type { FrameOf } from './slot.ts'
import type { Env } from '../env/env.ts'

export interface SlotsOwner {
  readonly env: Env
  readonly times: ConnectionTimes
  readonly frameBytes: number
  readonly leads: boolean
  readonly drivenLinks: readonly Link[]
  readonly broken: BrokenConnection
  readonly loopMs: number
  run(task: () => void): void
  defer(task: () => void): void
}

export class Slots {
  readonly #owner: SlotsOwner
  readonly ports: Ports
  #slots = new Map<string, Slot[]>()
  #peerClients: readonly ClientEntry[] = []

  constructor(owner: SlotsOwner) {
    this.#owner = owner
    this.ports = new Ports(owner.broken)
  }

  add(client: ChannelClient): void {
    const slots: Slot[] = []
    for (let index = 0; index < client.ports; index++)
      slots.push(new Slot(client, index, (slot) => this.#ownerOf(slot)))
    this.#slots.set(client.id, slots)
    this.reconcile()
  }

  entries(): readonly ClientEntry[] {
    const entries: ClientEntry[] = []
    for (const [id, slots] of this.#slots) {
      const [first] = slots
      if (first === undefined || first.closing !== undefined) continue
      const { version, ports, memoryBytes, policy } = first.client
      entries.push({ id, version, ports, memoryBytes, policy })
    }
    return entries
  }

  status(): readonly ChannelStatus[] {
    const works = this.#owner.drivenLinks.some((link) => link.usable)
    return this.#all().map((slot) => ({
      ...slot.status(),
      reason:
        slot.state === 'READY'
          ? ''
          : works
            ? (this.#wanted(slot.client, slot.index) ?? slot.cause)
            : 'no interconnect works',
    }))
  }

  /** Drains or fails what is outstanding, tells the far client, and resolves when nothing can land here any more. */
  close(clientId: string): Promise<void> {
    const slots = this.#slots.get(clientId) ?? []
    const all = slots.map(
      (slot) =>
        new Promise<void>((resolve) => {
          const closing = (slot.closing ??= {
            farDone: slot.end === undefined,
            deadlineLoopMs: this.#owner.loopMs + this.#owner.times.closeMs,
            done: [],
          })
          closing.done.push(resolve)
          slot.pending = undefined
          slot.state = 'CLOSING'
          if (slot.end !== undefined) {
            slot.end.closing()
            this.#tell({ kind: 'close', ...slot.nameOf(slot.end) }, slot.end)
          }
          this.#closeStep(slot)
        }),
    )
    if (this.#owner.broken.memoryFirst === true) return Promise.resolve()
    return Promise.all(all).then(() => undefined)
  }

  peerClients(clients: readonly ClientEntry[]): void {
    this.#peerClients = clients
    for (const slots of this.#slots.values()) for (const slot of slots) slot.retryLoopMs = 0
    this.reconcile()
  }

  /** A driver is gone; its channels go on over another, or are down. */
  linkFailed(link: Link, cause: string): void {
    for (const slot of this.#all()) {
      if (slot.pending?.link === link) slot.pending = undefined
      if (slot.end?.links.includes(link) === true) this.#fail(slot, slot.end, cause, true)
    }
    this.reconcile()
  }

  /** Everything is over with this partner: it has restarted. */
  partnerRestarted(cause: string): void {
    this.#peerClients = []
    for (const slot of this.#all()) {
      slot.pending = undefined
      if (slot.end !== undefined) this.#end(slot, slot.end, cause, 'down')
    }
  }

  /** A demoted driver's channels do not wait until they are idle. */
  linkSlow(link: Link): void {
    if (!this.#owner.drivenLinks.some((other) => other.usable && !other.slow)) return
    for (const slot of this.#all()) {
      if (slot.end?.links.includes(link) === true)
        this.#fail(slot, slot.end, `driver ${link.name} is slow`, true)
    }
    this.reconcile()
  }

  tick(): void {
    const { loopMs, times } = this.#owner
    for (const slot of this.#all()) {
      if (slot.closing !== undefined && loopMs > slot.closing.deadlineLoopMs) {
        slot.closing.farDone = true
        if (slot.end !== undefined) this.#fail(slot, slot.end, 'closed', true)
        this.#closeStep(slot)
      }
    }
    this.reconcile()
    if (!this.#owner.leads) return
    for (const slot of this.#all()) {
      const { end } = slot
      if (end?.state !== 'READY' || end.held || !end.idle || loopMs < slot.moveLoopMs) continue
      if (
        !misplaced(this.#policy(slot.client), end.links, this.#owner.drivenLinks, (link) =>
          this.ports.load(link),
        )
      )
        continue
      slot.moveLoopMs = loopMs + times.rebalanceMs
      end.held = true
      this.#tell({ kind: 'move', ...slot.nameOf(end) }, end)
      // One at a time: each changes the loads.
      return
    }
  }

  onControl(link: Link, frame: ControlFrame): void {
    switch (frame.kind) {
      case 'open':
        this.#onOpen(link, frame)
        return
      case 'opened':
        this.#onOpened(link, frame)
        return
      case 'refused':
        this.#onRefused(frame)
        return
      case 'ready':
        this.#onReady(link, frame)
        return
      case 'failed': {
        const slot = this.#find(frame)
        if (slot === undefined) return
        slot.generation = Math.max(slot.generation, frame.generation)
        if (slot.pending !== undefined && slot.pending.frame.generation <= frame.generation)
          slot.pending = undefined
        if (slot.end !== undefined && slot.end.generation <= frame.generation)
          this.#fail(slot, slot.end, frame.cause, false)
        this.reconcile()
        return
      }
      case 'close': {
        const slot = this.#find(frame)
        if (slot?.end?.generation !== frame.generation) {
          link.request({
            kind: 'closed',
            client: frame.client,
            index: frame.index,
            generation: frame.generation,
          })
          return
        }
        slot.end.closing()
        if (slot.end.quiet) this.#farClosed(slot, slot.end)
        else slot.moveLoopMs = Infinity
        return
      }
      case 'closed': {
        const slot = this.#find(frame)
        if (slot?.closing === undefined) return
        slot.closing.farDone = true
        this.#closeStep(slot)
        return
      }
      case 'move': {
        const end = this.#endOf(frame)
        const agreed = end !== undefined && end.end.state === 'READY' && end.end.idle
        link.request({
          kind: 'moved',
          client: frame.client,
          index: frame.index,
          generation: frame.generation,
          agreed,
        })
        if (agreed) this.#end(end.slot, end.end, 'moves to another driver', 'error')
        return
      }
      case 'moved': {
        const found = this.#endOf(frame)
        if (found === undefined) return
        if (frame.agreed) this.#end(found.slot, found.end, 'moves to another driver', 'error')
        else found.end.release()
        this.reconcile()
        return
      }
      default:
        link.fail(`${frame.kind} out of turn`)
    }
  }

  onData(link: Link, frame: DataFrame): void {
    this.ports.find(frame.port, frame.generation)?.receive(link, frame)
  }

  onReply(link: Link, frame: ReplyFrame): void {
    this.ports.find(frame.port, frame.generation)?.reply(link, frame)
  }

  /** Opens what both sides want and nothing keeps closed. */
  reconcile(): void {
    const { leads, drivenLinks: links, loopMs } = this.#owner
    if (!leads || !links.some((link) => link.usable)) return
    for (const slot of this.#all()) {
      if (
        slot.end !== undefined ||
        slot.closing !== undefined ||
        slot.working > 0 ||
        loopMs < slot.retryLoopMs
      )
        continue
      if (this.#wanted(slot.client, slot.index) !== undefined) continue
      this.#open(slot)
    }
  }

  #open(slot: Slot): void {
    const links = place(this.#policy(slot.client), this.#owner.drivenLinks, (link) => this.ports.load(link))
    const [control] = links
    if (control === undefined) return
    const end = this.#newEnd(slot, slot.generation + 1, links)
    slot.state = 'OPENING'
    control.request({
      kind: 'open',
      ...slot.nameOf(end),
      ...slot.offerOf(end),
      links: links.map((link) => link.name),
    })
  }

  #onOpen(link: Link, frame: FrameOf<'open'>): void {
    const slot = this.#find(frame)
    const reason =
      this.#owner.leads || slot === undefined || slot.closing !== undefined
        ? `${frame.client} is not registered`
        : this.#wanted(slot.client, slot.index)
    const links = this.#owner.drivenLinks.filter(
      (candidate) => frame.links.includes(candidate.name) && candidate.usable,
    )
    const refuse = (why: string) => {
      const generation = Math.max(slot?.generation ?? 0, 0)
      link.request({ kind: 'refused', client: frame.client, index: frame.index, generation, reason: why })
    }
    if (slot === undefined || reason !== undefined) {
      refuse(reason ?? 'not registered')
      return
    }
    if (frame.generation <= slot.generation) {
      refuse('generation is over')
      return
    }
    if (slot.end !== undefined) this.#end(slot, slot.end, 'superseded', 'error')
    if (links.length !== frame.links.length || links.length === 0) {
      slot.generation = frame.generation
      refuse('driver is not ready')
      return
    }
    if (slot.working > 0) {
      slot.pending = { link, frame }
      return
    }
    const ordered = frame.links.map((name) => links.find((candidate) => candidate.name === name)!)
    const end = this.#newEnd(slot, frame.generation, ordered)
    end.bind(frame)
    slot.state = 'OPEN'
    link.request({ kind: 'opened', ...slot.nameOf(end), ...slot.offerOf(end) })
  }

  #onOpened(link: Link, frame: FrameOf<'opened'>): void {
    const found = this.#endOf(frame)
    if (found?.end.state !== 'OPENING') {
      link.request({
        kind: 'failed',
        client: frame.client,
        index: frame.index,
        generation: frame.generation,
        cause: 'over',
      })
      return
    }
    const { slot, end } = found
    end.bind(frame)
    slot.state = 'OPEN'
    this.#sendReady(slot, end)
  }

  #onRefused(frame: FrameOf<'refused'>): void {
    const slot = this.#find(frame)
    if (slot?.end?.state !== 'OPENING') return
    slot.generation = Math.max(slot.generation, frame.generation)
    this.#end(slot, slot.end, frame.reason, 'error')
    slot.retryLoopMs = this.#owner.loopMs + this.#owner.times.retryMinMs
    this.#owner.env.log('debug', 'channel refused', {
      client: frame.client,
      index: frame.index,
      reason: frame.reason,
    })
  }

  #onReady(link: Link, frame: FrameOf<'ready'>): void {
    const found = this.#endOf(frame)
    if (found?.end.state !== 'OPEN') return
    const { slot, end } = found
    if (!sameRegions(frame.regions, slot.regions)) {
      link.fail(`partner holds other regions of ${frame.client} than were offered`)
      return
    }
    if (!end.readyReceived(link)) return
    if (!this.#owner.leads) this.#sendReady(slot, end)
    slot.state = 'READY'
    end.announced = true
    this.#owner.defer(() => slot.client.up(end))
    end.ready()
  }

  #sendReady(slot: Slot, end: ChannelEnd): void {
    for (const link of end.links)
      link.request({ kind: 'ready', ...slot.nameOf(end), regions: end.remoteRegions })
  }

  /** The generation is dead: `error` if there is another way, else `down`. */
  #fail(slot: Slot, end: ChannelEnd, cause: string, tell: boolean): void {
    const way = this.#owner.drivenLinks.some((link) => link.usable)
    if (tell) this.#tell({ kind: 'failed', ...slot.nameOf(end), cause }, undefined)
    const goesOn = way && slot.closing === undefined && this.#wanted(slot.client, slot.index) === undefined
    this.#end(slot, end, cause, goesOn ? 'error' : 'down')
    if (end.announced && goesOn) slot.failovers++
  }

  #end(slot: Slot, end: ChannelEnd, cause: string, verdict: 'error' | 'down'): void {
    this.ports.remove(end)
    slot.forgetEnd()
    slot.cause = cause
    if (slot.state !== 'CLOSING') slot.state = verdict === 'error' ? 'RECOVERING' : 'REQUESTED'
    end.die(cause)
    if (end.announced) {
      this.#owner.defer(() =>
        verdict === 'error' ? slot.client.error(end, cause) : slot.client.down(end, cause),
      )
    }
    this.#closeStep(slot)
  }

  /** The far client has closed, and what ours had under way is done. */
  #farClosed(slot: Slot, end: ChannelEnd): void {
    this.#tell({ kind: 'closed', ...slot.nameOf(end) }, end)
    slot.moveLoopMs = 0
    this.#end(slot, end, 'closed by the partner', 'down')
  }

  #closeStep(slot: Slot): void {
    const { closing } = slot
    if (closing === undefined) return
    if (slot.end !== undefined && closing.farDone && slot.end.quiet)
      this.#end(slot, slot.end, 'closed', 'down')
    if (slot.end !== undefined || slot.working > 0) return
    const slots = this.#slots.get(slot.client.id)
    if (slots !== undefined) {
      const left = slots.filter((other) => other !== slot)
      if (left.length > 0) this.#slots.set(slot.client.id, left)
      else this.#slots.delete(slot.client.id)
    }
    // After its last callback.
    this.#owner.defer(() => {
      for (const done of closing.done.splice(0)) done()
    })
  }

  #ownerOf(slot: Slot): EndOwner {
    return {
      frameBytes: this.#owner.frameBytes,
      broken: this.#owner.broken,
      defer: (task) => this.#owner.defer(task),
      begun: () => {
        slot.working++
      },
      ended: () => {
        slot.working--
        if (slot.working > 0 || slot.end !== undefined) return
        this.#owner.run(() => {
          this.#closeStep(slot)
          const { pending } = slot
          slot.pending = undefined
          if (pending !== undefined && pending.link.usable) this.#onOpen(pending.link, pending.frame)
          else this.reconcile()
        })
      },
      drained: (end) => {
        if (slot.end !== end || end.state !== 'CLOSING') return
        if (slot.closing !== undefined) this.#closeStep(slot)
        else this.#farClosed(slot, end)
      },
    }
  }

  #newEnd(slot: Slot, generation: number, links: readonly Link[]): ChannelEnd {
    const end = new ChannelEnd(slot.owner, slot.client, slot.index, generation, this.ports.choose(), links)
    slot.generation = generation
    slot.end = end
    slot.moveLoopMs = this.#owner.loopMs + this.#owner.times.rebalanceMs
    this.ports.add(end)
    return end
  }

  /** Undefined if both sides want this channel, else why not. */
  #wanted(client: ChannelClient, index: number): string | undefined {
    return unwanted(client, index, this.#farClient(client))
  }

  #farClient(client: ChannelClient): ClientEntry | undefined {
    return this.#peerClients.find((entry) => entry.id === client.id)
  }

  /** Of two clients that want different things, both get what the stricter one wants. */
  #policy(client: ChannelClient): ChannelClient['policy'] {
    return client.policy === 'striped' && this.#farClient(client)?.policy === 'striped'
      ? 'striped'
      : 'ordered'
  }

  /** Over the channel's own driver, else over any. */
  #tell(frame: ControlFrame, end: ChannelEnd | undefined): void {
    const link = end?.links.find((own) => own.usable) ?? this.#owner.drivenLinks.find((any) => any.usable)
    link?.request(frame)
  }

  #find(name: ChannelName): Slot | undefined {
    return this.#slots.get(name.client)?.find((slot) => slot.index === name.index)
  }

  #endOf(name: ChannelName): { slot: Slot; end: ChannelEnd } | undefined {
    const slot = this.#find(name)
    return slot?.end?.generation === name.generation ? { slot, end: slot.end } : undefined
  }

  #all(): readonly Slot[] {
    return [...this.#slots.values()].flat()
  }
}

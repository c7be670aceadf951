/**
 * The operator's connections to the filers: one for each pod that runs, kept up, watched. It knows the last status of those that
 * answer, and for how long the others have not.
 */
import type { DesiredState, FilerStatus, SnapshotRequest } from '../api/v1alpha1/filer-config.ts'
import type { AdminClient, AdminConnector, AdminTarget, SnapshotAnswer } from './admin-client.ts'
import type { FilerReport } from './filer-pair/observed.ts'

interface Link {
  readonly target: AdminTarget
  readonly client: AdminClient
  readonly stop: AbortController
  status: FilerStatus | undefined
  silentSinceMs: number
  reason: string
}

/** A filer that starts answers within a second or two, and somebody waits for its Ready. */
const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 1000

export class FilerLinks {
  readonly #connect: AdminConnector
  readonly #changed: (key: string) => void
  readonly #links = new Map<string, Map<string, Link>>()

  /** `changed` is told the pair's key whenever a report is another one. */
  constructor(connect: AdminConnector, changed: (key: string) => void) {
    this.#connect = connect
    this.#changed = changed
  }

  /** Which filers of a pair there are to talk to, and where. */
  keep(key: string, targets: ReadonlyMap<string, AdminTarget>): void {
    const links = this.#links.get(key) ?? new Map<string, Link>()
    for (const [filer, link] of [...links]) {
      const target = targets.get(filer)
      if (target !== undefined && same(target, link.target)) continue
      links.delete(filer)
      end(link)
    }
    for (const [filer, target] of targets) if (!links.has(filer)) links.set(filer, this.#open(key, target))
    if (links.size > 0) this.#links.set(key, links)
    else this.#links.delete(key)
  }

  reports(key: string, nowMs = performance.now()): Map<string, FilerReport> {
    const reports = new Map<string, FilerReport>()
    for (const [filer, link] of this.#links.get(key) ?? [])
      reports.set(filer, {
        status: link.status,
        silentMs: link.status === undefined ? nowMs - link.silentSinceMs : 0,
        silentReason: link.status === undefined ? link.reason : '',
      })
    return reports
  }

  async apply(key: string, filer: string, desired: DesiredState): Promise<void> {
    const link = this.#links.get(key)?.get(filer)
    if (link === undefined) return
    const generation = await link.client.apply(desired)
    if (link.status !== undefined && generation > link.status.generation)
      link.status = { ...link.status, generation }
  }

  /** Rejects when the filer is not there or does not answer. */
  async snapshot(key: string, filer: string, request: SnapshotRequest): Promise<SnapshotAnswer> {
    const link = this.#links.get(key)?.get(filer)
    if (link === undefined) throw new Error(`filer ${filer} is not there`)
    return link.client.snapshot(request)
  }

  stop(): void {
    for (const links of this.#links.values()) for (const link of links.values()) end(link)
    this.#links.clear()
  }

  #open(key: string, target: AdminTarget): Link {
    const link: Link = {
      target,
      client: this.#connect(target),
      stop: new AbortController(),
      status: undefined,
      silentSinceMs: performance.now(),
      reason: 'not asked yet',
    }
    void this.#follow(key, link)
    return link
  }

  async #follow(key: string, link: Link): Promise<void> {
    const { signal } = link.stop
    let retryMs = RETRY_MIN_MS
    while (!signal.aborted) {
      let reason = 'the answer ended'
      try {
        await link.client.watch((status) => {
          retryMs = RETRY_MIN_MS
          link.status = status
          this.#changed(key)
        }, signal)
      } catch (error) {
        reason = error instanceof Error ? error.message : String(error)
      }
      if (signal.aborted) return
      const news = link.status !== undefined || link.reason !== reason
      if (link.status !== undefined) link.silentSinceMs = performance.now()
      link.status = undefined
      link.reason = reason
      if (news) this.#changed(key)
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, retryMs)
        signal.addEventListener('abort', () => {
          clearTimeout(timer)
          resolve(undefined)
        })
      })
      retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)
    }
  }
}

function end(link: Link): void {
  link.stop.abort()
  link.client.close()
}

function same(a: AdminTarget, b: AdminTarget): boolean {
  return a.address === b.address && a.uri === b.uri && a.tls.ca === b.tls.ca && a.tls.cert === b.tls.cert
}

/** How the pods of a pair come to a new template: one at a time, by planned takeovers, only while the pair can spare a filer. Pure. */
import { ANNOTATION_TEMPLATE, namesOf } from '../names.ts'
import { fails, holds } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { absent, redundant, takeoverPossible } from './redundancy.ts'
import type { FilerObserved, StatusInput } from './status-input.ts'
import { sidesOf } from './status-input.ts'

/** Filers whose pod has another template than it should have. */
export function outdated(input: StatusInput): FilerObserved[] {
  return input.filers.filter(
    (f) => f.pod !== undefined && f.pod.metadata.annotations?.[ANNOTATION_TEMPLATE] !== f.template,
  )
}

export function upToDate(input: StatusInput): Verdict {
  const old = outdated(input)
  if (old.length === 0) return devicesJoined(input)
  const names = old.map((f) => namesOf(input.name).pod(f.name)).join(', ')
  const held = [...new Set(old.flatMap((f) => f.heldFor))].sort()
  if (held.length > 0)
    return fails(
      'WaitingForClaims',
      `pod ${names} has an older template; replaced once these claims are bound: ${held.slice(0, 4).join(', ')}${held.length > 4 ? ', …' : ''}; see their StorageClass`,
    )
  if (nextToReplace(input) !== undefined)
    return fails('Updating', `pod ${names} has an older template and is being replaced; nothing to do`)
  if (input.rest.state !== 'Running')
    return fails('Updating', `pod ${names} has an older template and is ending; spec.state is Stopped`)
  if (input.spec!.update === 'Manual' && isSpare(input))
    return fails(
      'WaitingForYou',
      `pod ${names} has an older template, and spec.update is Manual: delete one pod after the other, each when the pair is redundant`,
    )
  const { other } = input.updateTurn
  if (other !== undefined && isSpare(input))
    return fails(
      'WaitingForOtherPair',
      `pod ${names} has an older template; replaced once FilerPair ${other} is up to date and redundant`,
    )
  const text = `pod ${names} has an older template; replaced once ${whatIsWaitedFor(input)}`
  return fails(isUpdating(input) ? 'Updating' : 'WaitingForRedundancy', text)
}

function whatIsWaitedFor(input: StatusInput): string {
  if (waitsForHome(input)) return 'everything is at home again'
  const { maintenance } = input.spec!
  return maintenance !== undefined && isSpare(input)
    ? `spec.maintenance goes: until then filer ${maintenance.filer} is to serve nothing`
    : 'the pair is redundant'
}

function devicesJoined(input: StatusInput): Verdict {
  const waiting = input.pools.flatMap(
    (pool) => input.view.aggregate(pool.filer, pool.name)?.waitingDevices ?? [],
  )
  const [first] = waiting
  if (first === undefined) return holds('UpToDate', 'the pods run the wanted template')
  const names = waiting.map((d) => d.name)
  return fails(
    'DevicesWaiting',
    `device ${names.slice(0, 4).join(', ')}${names.length > 4 ? ', …' : ''} has not joined yet: ${first.reason}`,
  )
}

/** Whether one filer may go: its partner would carry on with everything. A side that is only being opened may yet fail to be. */
function isSpare(input: StatusInput): boolean {
  return (
    sidesOf(input).every(({ report }) => report?.serving === true) &&
    redundant(input).status === 'True' &&
    takeoverPossible(input).status === 'True' &&
    absent(input).length === 0 &&
    input.filers.every((f) => f.pod !== undefined && f.pod.metadata.deletionTimestamp === undefined)
  )
}

/**
 * A pod is to be replaced, and what its predecessor handed over is not back yet: that is waited for, so that the next planned takeover
 * moves one filer's volumes only. Who gives back by hand is not waited for.
 */
export function waitsForHome(input: StatusInput): boolean {
  return (
    input.spec?.takeover.giveback === 'Automatic' &&
    input.spec.update === 'Automatic' &&
    input.spec.maintenance === undefined &&
    outdated(input).some((f) => f.heldFor.length === 0) &&
    isSpare(input) &&
    [...input.view.sides.values()].some((side) => side.owner !== side.side)
  )
}

/** Then it need not wait for the delay, unless a filer ended by itself since its pod came: it would be asked to serve, and end, again and again. */
export function givesBackNow(input: StatusInput): boolean {
  const restarts = ({ pod }: FilerObserved): number => {
    const status = pod?.['status'] as { containerStatuses?: { restartCount?: number }[] } | undefined
    return status?.containerStatuses?.[0]?.restartCount ?? 0
  }
  const isNew = (f: FilerObserved): boolean => !outdated(input).includes(f)
  return waitsForHome(input) && input.filers.filter(isNew).every((f) => restarts(f) === 0)
}

/** The pod that may go now for a new one: one that does not run yet, else one of a pair that can spare it. */
export function nextToReplace(input: StatusInput): FilerObserved | undefined {
  const old = outdated(input).filter(
    (f) => f.pod!.metadata.deletionTimestamp === undefined && f.heldFor.length === 0,
  )
  const pending = old.find((f) => (f.pod!['status'] as { phase?: string } | undefined)?.phase === 'Pending')
  if (pending !== undefined) return pending
  const { spec, updateTurn, rest } = input
  if (spec?.update === 'Manual' || rest.state !== 'Running' || updateTurn.other !== undefined)
    return undefined
  if (waitsForHome(input) || !isSpare(input)) return undefined
  return spec?.maintenance === undefined ? old[0] : old.find((f) => f.name === spec.maintenance?.filer)
}

/**
 * Whether the pair is in the middle of it, so that no other pair may begin: a version that does not come up stops at one pair. Status says so, too, lest an
 * operator that starts anew let a second pair begin.
 */
export function isUpdating(input: StatusInput): boolean {
  if (input.spec === undefined || input.spec.update === 'Manual' || input.rest.state !== 'Running')
    return false
  if (nextToReplace(input) !== undefined) return true
  const before = input.before?.conditions?.find((c) => c.type === 'UpToDate')
  const began = input.updateTurn.mine || before?.reason === 'Updating'
  return began && (outdated(input).length > 0 || !isSpare(input))
}

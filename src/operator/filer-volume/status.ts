/** Conditions and status of a FilerVolume, from its pair's. Pure. */
import { roundBytes } from '../../api/quantity.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { roundedUsed } from '../filer-pair/status.ts'
import type { PairView, VolumeReport } from '../filer-pair/view.ts'
import type { ConversionAtPair } from '../conversion/desired.ts'
import type { MirrorAtPair } from '../mirror/desired.ts'
import { ANNOTATION_ADDRESS, PORTS } from '../names.ts'
import { fails, headline, holds, unknown } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import type { VolumeInForce } from './accept.ts'
import { aggregateOf, homeOf } from './volume.ts'

export interface VolumeInput {
  readonly volume: VolumeInForce
  readonly pairName: string
  readonly pair: FilerPairSpec | undefined
  readonly pairReady: Verdict
  readonly pairUpToDate: Verdict
  readonly view: PairView
  readonly mount: FilerVolumeStatus['mount']
  readonly claimed: Verdict
  readonly snapshotRequest: FilerVolumeStatus['snapshotRequest']
  /** Of which it is an end. */
  readonly mirror: MirrorAtPair | undefined
  readonly conversion: ConversionAtPair | undefined
}

const SNAPSHOTS_SHOWN = 32

export function volumeVerdicts(input: VolumeInput): Record<string, Verdict> {
  const { acceptance } = input.volume
  if (acceptance.spec === undefined || input.pair === undefined) {
    const waits = fails('NotAccepted', `the spec is not accepted: ${acceptance.verdict.message}`)
    return { Accepted: acceptance.verdict, Ready: waits, Intact: waits, Exported: waits, Claimed: waits }
  }
  return {
    Accepted: acceptance.verdict,
    Ready: ready(input),
    Intact: intact(input),
    Exported: exported(input, acceptance.spec.export.rules ?? input.pair.exportDefaults),
    Claimed: input.claimed,
  }
}

function exported({ mirror, view, pairName }: VolumeInput, rules: readonly unknown[]): Verdict {
  const report = mirror && view.mirror(mirror.desired.id)
  if (report?.role === 'Destination' && report.state !== 'Broken')
    return fails(
      'MirrorDestination',
      `it is the destination of Mirror ${mirror!.name}, and no client may use it; spec.state: Broken of the mirror makes it a volume of its own`,
    )
  if (rules.length === 0)
    return fails(
      'NoRules',
      `spec.export.rules: neither the volume nor FilerPair ${pairName} (spec.exportDefaults) has a rule, so no client may mount it; add one`,
    )
  return holds('Exported', 'clients that a rule names may mount it')
}

function ready(input: VolumeInput): Verdict {
  const { object, acceptance, id } = input.volume
  const user = userOf(input)
  if (object.metadata.deletionTimestamp !== undefined && user !== undefined)
    return fails('InUse', `the volume is being deleted, and ${user}; delete that first`)
  if (object.metadata.deletionTimestamp !== undefined)
    return fails('Removing', 'the volume is being deleted; its data is being freed')
  const report = input.view.volume(id)
  const side = homeOf(acceptance.spec!, input.pair)
  if (input.view.sides.get(side)?.serving !== true)
    return fails(
      'PairNotReady',
      `filer ${side} of FilerPair ${input.pairName}, where the volume lives, is not served: ${input.pairReady.message || 'see the pair'}`,
    )
  switch (report?.state) {
    case undefined:
    case 'Creating':
    case 'Removed':
    case 'Retained':
      return fails('Creating', creating(input, side, report))
    case 'Failed':
      return fails(
        report.reason === 'NoSpace' ? 'NoSpace' : 'Failed',
        report.reason === 'NoSpace'
          ? `spec.size: ${acceptance.spec!.size ?? ''} do not fit: ${report.message || `aggregate ${report.aggregate} is too full`}; lower it or free space`
          : `filer ${side}: ${report.message || report.reason}`,
      )
    case 'Ready':
      return holds('Ready', 'the volume is served')
  }
}

function intact(input: VolumeInput): Verdict {
  const report = input.view.volume(input.volume.id)
  const served = input.view.sides.get(homeOf(input.volume.acceptance.spec!, input.pair))?.serving === true
  if (report === undefined || !served) return unknown('Unknown', 'the volume is not served')
  const lost = report.unrepairableBlocks ?? 0
  if (lost === 0) return holds('Intact', 'every block that was read is as it should be')
  return fails(
    'BlocksLost',
    `neither copy has ${lost === 1 ? 'a block' : `${lost} blocks`} of the volume, and what needs ${lost === 1 ? 'it' : 'them'} gives EIO; the log of the filer that serves it names them (block cannot be repaired), docs/integrity.md says what to do`,
  )
}

function userOf({ mirror, conversion }: VolumeInput): string | undefined {
  if (mirror !== undefined) return `is the ${mirror.role.toLowerCase()} of Mirror ${mirror.name}`
  return conversion === undefined ? undefined : `is converted by Conversion ${conversion.name}`
}

function creating(input: VolumeInput, side: string, report: VolumeReport | undefined): string {
  if (report?.message) return `filer ${side} is making the volume: ${report.message}`
  const waits = input.volume.acceptance.spec?.type === 'Traditional' && report === undefined
  if (waits && input.pairUpToDate.status !== 'True')
    return `its devices are being added to FilerPair ${input.pairName}: ${input.pairUpToDate.message}`
  return `filer ${side} is making the volume; nothing to do`
}

export function volumeStatus(
  input: VolumeInput,
  verdicts: Readonly<Record<string, Verdict>>,
): Omit<FilerVolumeStatus, 'conditions' | 'observedGeneration'> {
  const { object, acceptance, id } = input.volume
  const before = object['status'] as FilerVolumeStatus | undefined
  const message = headline(verdicts)
  const { spec } = acceptance
  const told = {
    ...(input.snapshotRequest === undefined ? {} : { snapshotRequest: input.snapshotRequest }),
    ...(message === '' ? {} : { message }),
  }
  if (spec === undefined || input.pair === undefined) return told
  const report = input.view.volume(id)
  const sideReport = input.view.sides.get(homeOf(spec, input.pair))
  return {
    ...(id === '' ? {} : { id }),
    // After a conversion other than the spec, which applies unchanged.
    type: report?.type ?? before?.type ?? spec.type,
    aggregate: report?.aggregate ?? before?.aggregate ?? aggregateOf(object.metadata.name, spec),
    ...(sideReport?.serving === true ? { servedBy: sideReport.owner } : {}),
    ...(report === undefined ? {} : sizes(report, before)),
    ...told,
    ...(input.mount === undefined ? {} : { mount: input.mount }),
  }
}

function sizes(report: VolumeReport, before: FilerVolumeStatus | undefined): Partial<FilerVolumeStatus> {
  const newest = [...report.snapshots].sort(
    (x, y) => y.created.localeCompare(x.created) || y.name.localeCompare(x.name),
  )
  return {
    size: roundBytes(report.sizeBytes),
    used: roundedUsed(before?.used, report.usedBytes),
    ...(report.unrepairableBlocks === undefined ? {} : { unrepairableBlocks: report.unrepairableBlocks }),
    snapshotCount: newest.length,
    snapshotUsed: roundedUsed(before?.snapshotUsed, report.snapshotUsedBytes),
    ...(newest.length === 0
      ? {}
      : {
          snapshots: newest.slice(0, SNAPSHOTS_SHOWN).map(({ name, created, usedBytes }) => {
            const old = before?.snapshots?.find((s) => s.name === name)
            return { name, created, used: roundedUsed(old?.used, usedBytes) }
          }),
        }),
  }
}

/**
 * `noresvport`: a connection may come from any port, so one that is busy is no obstacle to coming back. `timeo`: a call whose answer
 * was lost is repeated after two seconds. Neither makes a client leave an address that has fallen silent: see docs/nfs.md.
 */
export function mountOf(service: KubeObject, path: string): FilerVolumeStatus['mount'] {
  const given = service.metadata.annotations?.[ANNOTATION_ADDRESS]
  const clusterIP = (service['spec'] as { clusterIP?: string } | undefined)?.clusterIP
  const [server, port] = given === undefined ? [clusterIP, String(PORTS.nfs)] : given.split(':')
  if (server === undefined || server === '' || port === undefined) return undefined
  return {
    server,
    path,
    options: `vers=3,hard,nolock,noresvport,proto=tcp,port=${port},mountport=${port},mountproto=tcp,timeo=20,retrans=2`,
  }
}

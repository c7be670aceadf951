/** Conditions and status of a FilerVolume, from its pair's. Pure. */
import { roundBytes } from '../../api/quantity.ts'
import type { FilerPairSpec } from '../../api/v1alpha1/filer-pair.ts'
import type { FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import type { KubeObject } from '../../edge/kube/api.ts'
import { roundedUsed } from '../filer-pair/status.ts'
import type { PairView } from '../filer-pair/view.ts'
import { ANNOTATION_ADDRESS, PORTS } from '../names.ts'
import { fails, headline, holds } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import { exportPath } from './accept.ts'
import type { VolumeInForce } from './accept.ts'

export interface VolumeInput {
  readonly volume: VolumeInForce
  readonly pairName: string
  readonly pair: FilerPairSpec | undefined
  readonly pairReady: Verdict
  readonly view: PairView
  /** Clients' Service by side. */
  readonly services: ReadonlyMap<string, KubeObject>
}

export function volumeVerdicts(input: VolumeInput): Record<string, Verdict> {
  const { acceptance } = input.volume
  if (acceptance.spec === undefined || input.pair === undefined) {
    const waits = fails('NotAccepted', `the spec is not accepted: ${acceptance.verdict.message}`)
    return { Accepted: acceptance.verdict, Ready: waits, Exported: waits }
  }
  const rules = acceptance.spec.export.rules ?? input.pair.exportDefaults
  return {
    Accepted: acceptance.verdict,
    Ready: ready(input),
    Exported:
      rules.length > 0
        ? holds('Exported', 'clients that a rule names may mount it')
        : fails(
            'NoRules',
            `spec.export.rules: neither the volume nor FilerPair ${input.pairName} (spec.exportDefaults) has a rule, so no client may mount it; add one`,
          ),
  }
}

function ready(input: VolumeInput): Verdict {
  const { object, acceptance } = input.volume
  if (object.metadata.deletionTimestamp !== undefined)
    return fails('Removing', 'the volume is being deleted; its data is being freed')
  const report = input.view.volume(object.metadata.uid ?? '')
  const side = sideOf(input)
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
      return fails(
        'Creating',
        `filer ${side} is making the volume${report?.message ? `: ${report.message}` : '; nothing to do'}`,
      )
    case 'Failed':
      return fails(
        report.reason === 'NoSpace' ? 'NoSpace' : 'Failed',
        report.reason === 'NoSpace'
          ? `spec.size: ${acceptance.spec!.size} do not fit: ${report.message || `aggregate ${report.aggregate} is too full`}; lower it or free space`
          : `filer ${side}: ${report.message || report.reason}`,
      )
    case 'Ready':
      return holds('Ready', 'the volume is served')
  }
}

function sideOf(input: VolumeInput): string {
  const aggregate = input.volume.acceptance.spec?.aggregate
  return input.pair?.aggregates.find((a) => a.name === aggregate)?.filer ?? ''
}

export function volumeStatus(
  input: VolumeInput,
  verdicts: Readonly<Record<string, Verdict>>,
): Omit<FilerVolumeStatus, 'conditions' | 'observedGeneration'> {
  const { object, acceptance } = input.volume
  const before = object['status'] as FilerVolumeStatus | undefined
  const message = headline(verdicts)
  const { spec } = acceptance
  if (spec === undefined || input.pair === undefined) return message === '' ? {} : { message }
  const side = sideOf(input)
  const report = input.view.volume(object.metadata.uid ?? '')
  const sideReport = input.view.sides.get(side)
  const service = input.services.get(side)
  const mount = service === undefined ? undefined : mountOf(service, exportPath(object.metadata.name, spec))
  return {
    ...(object.metadata.uid === undefined ? {} : { id: object.metadata.uid }),
    type: spec.type,
    aggregate: spec.aggregate,
    ...(sideReport?.serving === true ? { servedBy: sideReport.owner } : {}),
    ...(report === undefined
      ? {}
      : { size: roundBytes(report.sizeBytes), used: roundedUsed(before?.used, report.usedBytes) }),
    ...(message === '' ? {} : { message }),
    ...(mount === undefined ? {} : { mount }),
  }
}

/**
 * `noresvport` and a short `timeo`: a client must notice a dead endpoint and come back from a new source port, for the old
 * connection's state on its node still leads to the filer that is gone.
 */
function mountOf(service: KubeObject, path: string): FilerVolumeStatus['mount'] {
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

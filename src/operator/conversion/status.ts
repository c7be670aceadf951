/** Conditions and status of a Conversion, from what the filer reports that serves the volume. Pure. */
import { roundBytes } from '../../api/quantity.ts'
import type { ConversionStatus } from '../../api/v1alpha1/conversion.ts'
import type { ConversionReport } from '../filer-pair/view.ts'
import { fails, headline, holds, unknown } from '../runtime/conditions.ts'
import type { Verdict } from '../runtime/conditions.ts'
import type { ConversionInForce } from './accept.ts'

export interface ConversionInput {
  readonly conversion: ConversionInForce
  readonly report: ConversionReport | undefined
}

const TYPES = ['Checked', 'CutOver', 'Complete', 'RolledBack'] as const
const HOLDS: Readonly<Record<(typeof TYPES)[number], string>> = {
  Checked: 'the conversion would work',
  CutOver: 'the volume is served as a flexible one',
  Complete: 'the devices belong to the aggregate; nothing is left to do',
  RolledBack: 'the volume is what it was before',
}

export function conversionVerdicts({ conversion, report }: ConversionInput): Record<string, Verdict> {
  const { object, acceptance, volume } = conversion
  const Accepted = acceptance.verdict
  const all = (verdict: Verdict): Record<string, Verdict> => ({
    Accepted,
    ...Object.fromEntries(TYPES.map((type) => [type, verdict])),
  })
  if (acceptance.spec === undefined || volume === undefined)
    return all(fails('NotAccepted', `the spec is not accepted: ${Accepted.message}`))
  if (object.metadata.deletionTimestamp !== undefined)
    return all(
      fails(
        'Removing',
        `the conversion is being deleted; what is not cut over is undone by filer ${volume.side} of FilerPair ${volume.pairName}`,
      ),
    )
  if (report === undefined)
    return all(
      unknown(
        'Unknown',
        `no filer says anything of it yet; see side ${volume.side} of FilerPair ${volume.pairName}`,
      ),
    )
  return {
    Accepted,
    ...Object.fromEntries(
      TYPES.map((type) => {
        const said = report.conditions.find((c) => c.type === type)
        if (said === undefined) return [type, unknown('Unknown', 'the filer says nothing of it')]
        if (said.status === 'True') return [type, holds(type, said.message || HOLDS[type])]
        const { status, reason, message } = said
        return [type, { status, reason: reason === '' ? 'Unknown' : reason, message: message || reason }]
      }),
    ),
  }
}

export function conversionStatus(
  { conversion, report }: ConversionInput,
  verdicts: Readonly<Record<string, Verdict>>,
): Omit<ConversionStatus, 'conditions' | 'observedGeneration'> {
  const message = headlineOf(verdicts, conversion.acceptance.spec?.state)
  const told = message === '' ? {} : { message }
  if (conversion.acceptance.spec === undefined || report === undefined) return told
  const { inodesDone, inodesTotal, metadataEstimatedBytes, metadataActualBytes, rollback, cutOverId } = report
  return {
    id: conversion.object.metadata.uid ?? '',
    phase: report.phase,
    percent: report.percent,
    inodes: { done: inodesDone, total: inodesTotal },
    metadata: { estimated: roundBytes(metadataEstimatedBytes), actual: roundBytes(metadataActualBytes) },
    dataBlocksCopied: report.dataBlocksCopied,
    absentLeft: report.absentLeft,
    rollback: { possible: rollback.possible, changed: roundBytes(rollback.changedBytes) },
    ...(cutOverId === '' ? {} : { cutOverID: cutOverId }),
    ...told,
  }
}

/** What is wanted and is not yet. */
function headlineOf(verdicts: Readonly<Record<string, Verdict>>, state: string | undefined): string {
  const wanted = {
    Checked: ['Checked'],
    Paused: ['Checked'],
    Converted: ['Checked', 'Complete'],
    RolledBack: ['RolledBack'],
  }[state ?? 'Checked']!
  return headline(Object.fromEntries(['Accepted', ...wanted].map((type) => [type, verdicts[type]!])))
}

/**
 * The third act of the demonstration: a Traditional volume with a tree becomes a Flexible one while its client writes; handles stay valid, and no block of data is
 * copied. Each figure is measured in this run; the first thing that does not hold ends it.
 */
import type { ConversionSpec, ConversionStatus } from '../../api/v1alpha1/conversion.ts'
import type { FilerVolumeStatus } from '../../api/v1alpha1/filer-volume.ts'
import { CONVERSIONS, FILER_VOLUMES } from '../../edge/kube/resources.ts'
import { Load } from '../../nfs/load/load.ts'
import { parseManifests } from '../cli/manifests.ts'
import { parseGoal } from '../cli/wait.ts'
import type { Instance } from './instance.ts'
import { describe, mountOf, progress, readBack, seconds } from './steps.ts'

const WORKERS = 4
const FILES_PER_WORKER = 75
/** So slow that clients work in the middle of it. */
const SLOW = 100
const FAST = 1_000_000
const CALLS_IN_THE_MIDDLE = 100
const STEP_WITHIN_MS = 60_000
const ANSWERED_WITHIN_MS = 20_000

export interface ConversionScene {
  readonly tell: (text: string) => void
  readonly instance: Instance
  readonly name: string
  readonly spec: Pick<ConversionSpec, 'volumeName' | 'aggregate'>
}

/** The conversion that a manifest speaks of. */
export function conversionIn(text: string): Pick<ConversionScene, 'name' | 'spec'> {
  for (const { object } of parseManifests(text, 'sample'))
    if (object.kind === 'Conversion')
      return { name: object.metadata.name, spec: object['spec'] as ConversionSpec }
  throw new Error('the sample has no Conversion')
}

/** Rows for the table of the demonstration. */
export async function playConversion(scene: ConversionScene): Promise<[string, string][]> {
  const { tell, instance, name, spec } = scene
  const { volumeName } = spec
  const until = async (what: string, condition: string): Promise<ConversionStatus> => {
    const goal = parseGoal(`condition=${condition}`)
    const object = await instance.until(what, CONVERSIONS, name, goal, STEP_WITHIN_MS)
    return object['status'] as ConversionStatus
  }
  const ask = (state: ConversionSpec['state'], scanBlocksPerSecond: number): Promise<unknown> =>
    instance.api.mergePatch(CONVERSIONS, 'default', name, { spec: { state, scanBlocksPerSecond } })

  const ready = parseGoal('condition=Ready')
  const volume = await instance.until(`${volumeName} ready`, FILER_VOLUMES, volumeName, ready, STEP_WITHIN_MS)
  const { server: host, port, path } = mountOf(volume)
  const load = await Load.open([{ mount: { host, port, path }, workers: WORKERS }], {
    seed: 20260301,
    filesPerWorker: FILES_PER_WORKER,
    filesMax: FILES_PER_WORKER,
  })
  try {
    load.resume()
    const { metadata: before } = await until('the check', 'Checked')
    tell(
      `${volumeName} is Traditional, with devices of its own; a client wrote ${String(WORKERS * FILES_PER_WORKER)} files and goes on; the check says that converting it takes about ${before?.estimated ?? '?'} of metadata`,
    )

    load.resetPause()
    const began = performance.now()
    await ask('Converted', SLOW)
    await until('the cut-over', 'CutOver')
    const cutOverMs = performance.now() - began
    await progress(load, CALLS_IN_THE_MIDDLE, ANSWERED_WITHIN_MS)
    const pauseMs = load.longestPauseMs
    await assertFlexible(scene)
    const middle = await readBack(load)
    load.resume()
    tell(
      `it is served as Flexible, in ${spec.aggregate}, ${seconds(cutOverMs)} after it was asked for; the client waited ${seconds(pauseMs)}, has its handles still, and reads what it wrote (${describe(middle)}) while its metadata is being built`,
    )

    await ask('Converted', FAST)
    const { dataBlocksCopied, absentLeft, metadata } = await until('the devices joined', 'Complete')
    const completeMs = performance.now() - began
    await progress(load, CALLS_IN_THE_MIDDLE, ANSWERED_WITHIN_MS)
    const end = await readBack(load)
    if (dataBlocksCopied !== 0 || absentLeft !== 0)
      throw new Error(`blocks of data copied: ${String(dataBlocksCopied)}; absent: ${String(absentLeft)}`)
    tell(
      `its devices belong to ${spec.aggregate} after ${seconds(completeMs)}: no block of data was copied, ${metadata?.actual ?? '?'} of metadata was written; read back: ${describe(end)}`,
    )
    return [
      ['from Traditional to served as Flexible', seconds(cutOverMs)],
      ['longest pause of its client', seconds(pauseMs)],
      ['from asking to the end, under load', seconds(completeMs)],
      ['blocks of data copied', String(dataBlocksCopied)],
      ['metadata written', metadata?.actual ?? ''],
    ]
  } finally {
    load.close()
  }
}

async function assertFlexible({ instance, spec }: ConversionScene): Promise<void> {
  const flexible = parseGoal('jsonpath={.status.type}=Flexible')
  const volume = await instance.until(
    'the type in the status',
    FILER_VOLUMES,
    spec.volumeName,
    flexible,
    STEP_WITHIN_MS,
  )
  const { aggregate } = volume['status'] as FilerVolumeStatus
  if (aggregate !== spec.aggregate)
    throw new Error(`the volume is in ${String(aggregate)}, not ${spec.aggregate}`)
}

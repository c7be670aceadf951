/**
 * A thread of the check: opens the aggregate for itself, and does one job after the other as the main thread (run-check.ts) asks.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { AggregateCheck } from '../../core/block/check.ts'
import type { CheckJob } from '../../core/block/check.ts'
import { checkVolumeFiles } from '../../core/block/check-files.ts'
import { openDevice } from '../node/device.ts'
import { nodeEnv } from '../node/env.ts'
import { openReadOnly } from './open.ts'
import type { WorkerInput } from './run-check.ts'

const { paths, seen, cacheBytes } = workerData as WorkerInput
const opened = (list: readonly string[]) => list.map((path) => openDevice(path, { readOnly: true }))
const devices = { own: opened(paths.own), ...(paths.source && { source: opened(paths.source) }) }
const { aggregate } = await openReadOnly(nodeEnv({ write: () => {} }), devices, cacheBytes)
const check = new AggregateCheck(aggregate, { checkFiles: checkVolumeFiles, seen: new Uint8Array(seen) })

parentPort!.on('message', (job: CheckJob) => {
  check.run(job).then(
    (result) => parentPort!.postMessage(result),
    (error: unknown) => {
      throw error
    },
  )
})

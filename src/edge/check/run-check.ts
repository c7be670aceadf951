/**
 * The check of one image on several threads: jobs (core/block/check.ts) go to whoever is free. Memory is bounded: one bit for each block, shared, and the cache,
 * divided among the threads.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { Aggregate } from '../../core/block/aggregate.ts'
import { BitSet } from '../../core/block/bit-set.ts'
import { AggregateCheck } from '../../core/block/check.ts'
import type { CheckJob, CheckResult, JobResult } from '../../core/block/check.ts'
import { checkVolumeFiles } from '../../core/block/check-files.ts'
import type { ImageParts } from './open.ts'

export interface WorkerInput {
  readonly paths: ImageParts<string>
  readonly seen: SharedArrayBuffer
  readonly cacheBytes: number
}

export interface CheckProgress {
  readonly jobs: number
  readonly done: number
  /** Of blocks read and compared so far. */
  readonly bytes: number
}

export interface RunOptions {
  /** Threads; 1: this one; undefined: as many as processors, where the image is large enough for it. */
  readonly threads?: number
  /** Of all threads together. */
  readonly cacheBytes: number
  readonly progress?: (progress: CheckProgress) => void
}

/** With fewer blocks than this a thread costs more than it saves. */
const BLOCKS_PER_THREAD = 16384

interface Hand {
  run(job: CheckJob): Promise<JobResult>
  end(): Promise<unknown>
}

function startThread(input: WorkerInput): Hand {
  const worker = new Worker(new URL('./check-worker.ts', import.meta.url), { workerData: input })
  let waiting: { resolve(result: JobResult): void; reject(error: Error): void } | undefined
  let failure: Error | undefined
  worker.on('message', (result: JobResult) => waiting?.resolve(result))
  worker.on('error', (error: Error) => {
    failure = error
    waiting?.reject(error)
  })
  return {
    run: (job) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) {
          reject(failure)
          return
        }
        waiting = { resolve, reject }
        worker.postMessage(job)
      }),
    end: () => worker.terminate(),
  }
}

/** Checks an image that was just opened read-only from the devices at `paths`. */
export async function runCheck(
  aggregate: Aggregate,
  paths: ImageParts<string>,
  options: RunOptions,
): Promise<CheckResult> {
  const seen = new SharedArrayBuffer(BitSet.bytesFor(aggregate.space.end))
  const check = new AggregateCheck(aggregate, { checkFiles: checkVolumeFiles, seen: new Uint8Array(seen) })
  const { first, then } = await check.jobs()
  const jobs = first.length + then.length
  const useful = 1 + Math.floor(aggregate.usedBlocks / BLOCKS_PER_THREAD)
  const threads = Math.min(options.threads ?? Math.min(availableParallelism(), useful), jobs)
  const cacheBytes = Math.floor(options.cacheBytes / threads)
  const hands: Hand[] = [{ run: (job) => check.run(job), end: () => Promise.resolve() }]
  for (let n = 1; n < threads; n++) hands.push(startThread({ paths, seen, cacheBytes }))
  // In the order of the jobs, so that the same image gives the same list of problems.
  const results: JobResult[] = []
  let done = 0
  let bytes = 0
  try {
    for (const [round, start] of [
      [first, 0],
      [then, first.length],
    ] as const) {
      const queue = [...round.entries()]
      const work = async (hand: Hand): Promise<void> => {
        for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
          const result = await hand.run(next[1])
          results[start + next[0]] = result
          done += 1
          bytes += result.bytes
          options.progress?.({ jobs, done, bytes })
        }
      }
      await Promise.all(hands.map(work))
    }
  } finally {
    await Promise.all(hands.map((hand) => hand.end()))
  }
  return check.conclude(results)
}

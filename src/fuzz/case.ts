/**
 * One case, with what no target sees by itself: errors in what it left running in the background, and a loop that does not end in virtual time.
 */
import { SimRandom } from '../sim/world.ts'
import type { Target } from './target.ts'

/** Runs the case of a seed. Rejects with what went wrong, in whatever part of it. */
export async function runCase(target: Target, seed: number): Promise<number> {
  let stray: { readonly error: unknown } | undefined
  const onStray = (error: unknown): void => {
    stray ??= { error }
  }
  process.on('unhandledRejection', onStray)
  process.on('uncaughtException', onStray)
  try {
    const inputs = await target.run(new SimRandom(seed))
    await new Promise((resolve) => setImmediate(resolve))
    if (stray !== undefined) throw stray.error
    return inputs
  } finally {
    process.off('unhandledRejection', onStray)
    process.off('uncaughtException', onStray)
  }
}

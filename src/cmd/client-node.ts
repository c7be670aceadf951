/** `tandem client-node`: keeps the limits of a node with NFS clients low enough that they leave a lost node. A DaemonSet of the chart runs it. */
import { lowerLimits } from '../edge/node/client-limits.ts'
import { UsageError, withArguments } from '../embedded/cli/args.ts'

const SECONDS = 2
const SECONDS_MAX = 300
const AGAIN_MS = 60_000

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'client-node',
      summary: 'lower the limits of a node with NFS clients, so that they leave a lost node (root)',
      operands: '',
      operandsMin: 0,
      operandsMax: 0,
      flags: {
        seconds: { kind: 'text', value: 'N', meaning: `default ${SECONDS}` },
        once: { kind: 'switch', meaning: 'and end; else they are looked at every minute, until SIGTERM' },
      },
      notes: 'It writes two files below /proc/sys/net/netfilter; docs/nfs.md says what they are.',
    },
    args,
    async (parsed) => {
      const seconds = Number(parsed.text('seconds') ?? SECONDS)
      if (!Number.isInteger(seconds) || seconds < 1 || seconds > SECONDS_MAX)
        throw new UsageError(`--seconds is a whole number from 1 to ${SECONDS_MAX}`)
      const lower = (): void => {
        for (const message of lowerLimits(seconds)) console.log(message)
      }
      lower()
      if (parsed.has('once')) return 0
      const timer = setInterval(lower, AGAIN_MS)
      await new Promise((resolve) => {
        for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve)
      })
      clearInterval(timer)
      return 0
    },
  )
}

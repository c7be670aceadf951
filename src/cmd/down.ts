/** `tandem down`: ends a running `up` as planned; --purge removes its folder. */
import { rmSync } from 'node:fs'
import { withArguments } from '../embedded/cli/args.ts'
import { control } from '../embedded/up/control.ts'
import { STATE_DEFAULT, isOurs, lockHolder, stateDir } from '../embedded/up/state-dir.ts'

const END_WITHIN_MS = 60_000

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'down',
      summary: 'end what `tandem up` runs',
      operands: '',
      operandsMin: 0,
      operandsMax: 0,
      flags: {
        state: { kind: 'text', value: 'DIR', meaning: `default ${STATE_DEFAULT}` },
        purge: { kind: 'switch', meaning: 'remove DIR with all data' },
      },
    },
    args,
    async (parsed) => {
      const dir = stateDir(parsed.text('state') ?? STATE_DEFAULT)
      if (!isOurs(dir))
        throw new Error(`${dir.path} is not the state of an embedded instance; nothing was done`)
      const holder = lockHolder(dir)
      if (holder === undefined) console.log(`nothing runs in ${dir.path}`)
      else {
        await control(dir, '/stop').catch(() => process.kill(holder.pid, 'SIGTERM'))
        const deadline = performance.now() + END_WITHIN_MS
        while (lockHolder(dir) !== undefined) {
          if (performance.now() > deadline)
            throw new Error(
              `pid ${String(holder.pid)} has not ended in ${String(END_WITHIN_MS / 1000)} s; see ${dir.logs}`,
            )
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
        console.log(`ended (pid ${String(holder.pid)})`)
      }
      if (parsed.has('purge')) {
        rmSync(dir.path, { recursive: true, force: true })
        console.log(`removed ${dir.path}`)
      }
      return 0
    },
  )
}

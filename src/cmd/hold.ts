/** `tandem hold`: a filer that ends is not started again. */
import { withArguments } from '../embedded/cli/args.ts'
import { control } from '../embedded/up/control.ts'
import { STATE_DEFAULT, stateDir } from '../embedded/up/state-dir.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'hold',
      summary: 'embedded: do not start a filer again when it ends',
      operands: 'FILER',
      operandsMin: 1,
      operandsMax: 1,
      flags: {
        state: { kind: 'text', value: 'DIR', meaning: `default ${STATE_DEFAULT}` },
        kill: { kind: 'switch', meaning: 'and end it now with kill -9' },
      },
      notes:
        'FILER is its pod (east-a-0), east-a, east/a, or a where that is one only. `tandem release FILER` ends the hold.',
    },
    args,
    async (parsed) => {
      const dir = stateDir(parsed.text('state') ?? STATE_DEFAULT)
      const [filer] = parsed.operands
      await control(dir, '/hold', { filer })
      if (parsed.has('kill')) await control(dir, '/kill', { filer, signal: 'SIGKILL' })
      console.log(`${filer ?? ''} is held${parsed.has('kill') ? ', and was killed' : ''}`)
      return 0
    },
  )
}

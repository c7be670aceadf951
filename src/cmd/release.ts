/** `tandem release`: end of `tandem hold`. */
import { withArguments } from '../embedded/cli/args.ts'
import { control } from '../embedded/up/control.ts'
import { STATE_DEFAULT, stateDir } from '../embedded/up/state-dir.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'release',
      summary: 'embedded: start a held filer again, and whenever it ends',
      operands: 'FILER',
      operandsMin: 1,
      operandsMax: 1,
      flags: { state: { kind: 'text', value: 'DIR', meaning: `default ${STATE_DEFAULT}` } },
    },
    args,
    async (parsed) => {
      const [filer] = parsed.operands
      await control(stateDir(parsed.text('state') ?? STATE_DEFAULT), '/release', { filer })
      console.log(`${filer ?? ''} is released`)
      return 0
    },
  )
}

/** `tandem link`: what can happen to an interconnect, without a word to anyone. */
import { nearest } from '../api/nearest.ts'
import { UsageError, withArguments } from '../embedded/cli/args.ts'
import { control } from '../embedded/up/control.ts'
import { WHOLE } from '../embedded/up/relay.ts'
import type { LinkState } from '../embedded/up/relay.ts'
import { STATE_DEFAULT, stateDir } from '../embedded/up/state-dir.ts'

const ACTIONS = ['cut', 'slow', 'flap', 'restore']

function milliseconds(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise
  const value = Number(text.replace(/ms$/, ''))
  if (!(value > 0)) throw new UsageError(`${JSON.stringify(text)} is not a number of milliseconds`)
  return value
}

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'link',
      summary: 'embedded, with --links relayed: cut, slow, flap or restore an interconnect',
      operands: 'cut|slow|flap|restore PAIR LINK',
      operandsMin: 3,
      operandsMax: 3,
      flags: {
        state: { kind: 'text', value: 'DIR', meaning: `default ${STATE_DEFAULT}` },
        from: { kind: 'text', value: 'FILER', meaning: 'cut: only what this filer sends' },
        peer: {
          kind: 'text',
          value: 'PAIR',
          meaning: 'cut, slow, restore: only what goes between the filers of the two pairs',
        },
        delay: { kind: 'text', value: 'MS', meaning: 'slow: later by so much, each way; default 50' },
        period: { kind: 'text', value: 'MS', meaning: 'flap: so long cut, so long whole; default 500' },
      },
      notes: 'A cut is silent: bytes stop, nothing is closed, new connections answer nothing.',
    },
    args,
    async (parsed) => {
      const [action = '', pair = '', link = ''] = parsed.operands
      if (!ACTIONS.includes(action)) {
        const near = nearest(action, ACTIONS)
        throw new UsageError(
          `${JSON.stringify(action)} is none of ${ACTIONS.join(', ')}${near === undefined ? '' : `; did you mean ${near}?`}`,
        )
      }
      const from = parsed.text('from')
      let state: LinkState = WHOLE
      if (action === 'cut' && from !== undefined) state = { ...WHOLE, cut: [from] }
      if (action === 'slow') state = { ...WHOLE, delayMs: milliseconds(parsed.text('delay'), 50) }
      if (action === 'flap') state = { ...WHOLE, flapMs: milliseconds(parsed.text('period'), 500) }
      const peer = parsed.text('peer')
      if (peer !== undefined && from !== undefined)
        throw new UsageError('--peer cuts both ways; --from is of filers of one pair')
      const cutAll = action === 'cut' && from === undefined
      const order = { pair, ...(peer === undefined ? {} : { peer }), link, state, cutAll }
      await control(stateDir(parsed.text('state') ?? STATE_DEFAULT), '/link', order)
      console.log(`${pair}${peer === undefined ? '' : ` and ${peer}`} ${link}: ${action}`)
      return 0
    },
  )
}

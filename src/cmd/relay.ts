/** `tandem relay`: one interconnect of the embedded mode, a child of `up`, which tells it routes and states over its channel. */
import { withArguments } from '../embedded/cli/args.ts'
import { Relay } from '../embedded/up/relay.ts'
import type { LinkState, Route } from '../embedded/up/relay.ts'

type Order =
  | { type: 'open'; routes: Route[] }
  | { type: 'set'; state: LinkState }
  | { type: 'set-callers'; hosts: string[]; state: LinkState }

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'relay',
      summary: 'one interconnect of the embedded mode (started by `tandem up`)',
      operands: '',
      operandsMin: 0,
      operandsMax: 0,
      flags: {},
    },
    args,
    async () => {
      const relay = new Relay()
      let failed: (error: unknown) => void = () => undefined
      const ended = new Promise<void>((resolve, reject) => {
        process.once('SIGTERM', () => resolve())
        failed = reject
      })
      process.on('message', (order: Order) => {
        if (order.type === 'set') relay.set(order.state)
        else if (order.type === 'set-callers') relay.setCallers(order.hosts, order.state)
        else relay.open(order.routes).then(() => process.send?.({ type: 'ready' }), failed)
      })
      await ended
      relay.close()
      return 0
    },
  )
}

/** `tandem store`: the embedded store, a child of `up`. Ready when it says `{type: 'ready'}` to its parent. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { kinds } from '../api/v1alpha1/kinds.ts'
import { withArguments } from '../embedded/cli/args.ts'
import { storeServer } from '../embedded/store/server.ts'
import { Store } from '../embedded/store/store.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'store',
      summary: 'the objects of the embedded mode (started by `tandem up`)',
      operands: '',
      operandsMin: 0,
      operandsMax: 0,
      flags: {
        state: {
          kind: 'text',
          value: 'DIR',
          meaning: 'where objects.log is, and the socket store.sock is made',
        },
      },
    },
    args,
    async (parsed) => {
      const folder = parsed.text('state') ?? '.tandem'
      const socket = join(folder, 'store.sock')
      const store = await Store.open(folder, kinds, (error) => {
        console.error(
          `store: cannot write ${folder}: ${String(error)}; ending, since memory is ahead of the disk`,
        )
        process.exit(1)
      })
      const server = storeServer(store, (message) => console.error(`store: ${message}`))
      rmSync(socket, { force: true })
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(socket, resolve)
      })
      process.send?.({ type: 'ready' })
      await new Promise<void>((resolve) => process.once('SIGTERM', resolve))
      server.close()
      server.closeAllConnections()
      await store.settled()
      await store.close()
      rmSync(socket, { force: true })
      return 0
    },
  )
}

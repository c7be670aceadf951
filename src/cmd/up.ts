/** `tandem up`: runs manifests on this machine until it is told to stop. */
import { applyManifests } from '../embedded/cli/apply.ts'
import { withArguments } from '../embedded/cli/args.ts'
import { readManifests } from '../embedded/cli/manifests.ts'
import { STATE_DEFAULT } from '../embedded/up/state-dir.ts'
import { up } from '../embedded/up/up.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'up',
      summary: 'run manifests on this machine without Kubernetes',
      operands: '',
      operandsMin: 0,
      operandsMax: 0,
      flags: {
        filename: {
          kind: 'texts',
          short: 'f',
          value: 'FILE',
          meaning: 'manifests to apply at the start: a file, a folder, or - (may be repeated)',
        },
        state: { kind: 'text', value: 'DIR', meaning: `where everything is kept; default ${STATE_DEFAULT}` },
        links: {
          kind: 'text',
          value: 'HOW',
          choices: ['direct', 'relayed'],
          meaning: 'relayed: `tandem link` can cut them',
        },
        namespace: {
          kind: 'text',
          short: 'n',
          value: 'NAMESPACE',
          meaning: 'of objects that name none; default "default"',
        },
      },
      notes: 'Ctrl-C ends it as planned; what was there is there again at the next `up` on the same DIR.',
    },
    args,
    async (parsed) => {
      const say = (message: string): void => console.log(`tandem: ${message}`)
      const files = parsed.texts('filename')
      const manifests = files.length === 0 ? [] : readManifests(files)
      let signalled: () => void = () => undefined
      const signal = new Promise<void>((resolve) => (signalled = resolve))
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => signalled())
      // A parent that wants `up` to outlive it (the demo with --keep) says so; else a child ends with its parent.
      process.on('message', (message: unknown) => {
        if ((message as { type?: string }).type === 'stay') process.removeAllListeners('disconnect')
      })
      process.channel?.unref()
      const instance = await up({
        state: parsed.text('state') ?? STATE_DEFAULT,
        relayed: parsed.text('links') === 'relayed',
        log: say,
      })
      let status = 0
      try {
        say(`running in ${instance.dir.path} (pid ${String(process.pid)}); logs are in ${instance.dir.logs}`)
        if (manifests.length > 0) {
          const { lines, refusals } = await applyManifests(
            instance.api,
            manifests,
            parsed.text('namespace') ?? 'default',
          )
          for (const line of lines) say(line)
          for (const refusal of refusals) console.error(`tandem up: ${refusal}`)
          if (refusals.length > 0) status = 1
        }
        if (process.connected) process.send?.({ type: 'ready' })
        if (status === 0) await Promise.race([signal, instance.stopRequested])
      } finally {
        say('ending')
        await instance.stop()
      }
      return status
    },
  )
}

/**
 * argv → one command. Each command is one module of cmd/ that exports `run(args): Promise<number>` (the exit status), loaded only
 * when it is asked for, so that a filer never loads the operator's libraries. This module decides nothing else.
 */
import { nearest } from './api/nearest.ts'

interface Command {
  readonly summary: string
  readonly load: () => Promise<{ run(args: readonly string[]): Promise<number> }>
}

const commands: Readonly<Record<string, Command>> = {
  up: { summary: 'run manifests on this machine without Kubernetes', load: () => import('./cmd/up.ts') },
  down: { summary: 'stop what `up` runs; --purge removes its data', load: () => import('./cmd/down.ts') },
  get: { summary: 'list objects, or print one', load: () => import('./cmd/get.ts') },
  describe: { summary: 'show objects with conditions and events', load: () => import('./cmd/describe.ts') },
  apply: { summary: 'create or change objects from manifests', load: () => import('./cmd/apply.ts') },
  delete: { summary: 'delete objects', load: () => import('./cmd/delete.ts') },
  wait: { summary: 'wait until a condition holds', load: () => import('./cmd/wait.ts') },
  status: {
    summary: 'show a pair: who serves what, and whether it could lose a filer',
    load: () => import('./cmd/status.ts'),
  },
  report: {
    summary: 'gather what somebody needs who is to help, in one file, without secrets',
    load: () => import('./cmd/report.ts'),
  },
  takeover: { summary: 'have the partner serve a filer (planned)', load: () => import('./cmd/takeover.ts') },
  giveback: { summary: 'give a filer its volumes back', load: () => import('./cmd/giveback.ts') },
  drill: {
    summary: 'take each filer out of service and bring it home; tell what clients waited',
    load: () => import('./cmd/drill.ts'),
  },
  snapshot: {
    summary: 'make, list, delete snapshots of a volume, or put it back to one',
    load: () => import('./cmd/snapshot.ts'),
  },
  mirror: {
    summary: 'break a mirror, reverse it, or have it mirror again',
    load: () => import('./cmd/mirror.ts'),
  },
  hold: { summary: 'embedded: do not start a filer again when it ends', load: () => import('./cmd/hold.ts') },
  release: { summary: 'embedded: end of hold', load: () => import('./cmd/release.ts') },
  link: {
    summary: 'embedded: cut, slow, flap or restore an interconnect',
    load: () => import('./cmd/link.ts'),
  },
  demo: {
    summary: 'a pair on this machine loses a link and a filer, and no data',
    load: () => import('./cmd/demo.ts'),
  },
  check: {
    summary: 'prove the devices of an aggregate consistent (offline)',
    load: () => import('./cmd/check.ts'),
  },
  inspect: {
    summary: 'show what is on devices and in logs: volumes, inodes, blocks, records',
    load: () => import('./cmd/inspect.ts'),
  },
  sim: {
    summary: 'simulate pairs of filers with faults, and check what every client is told',
    load: () => import('./cmd/sim.ts'),
  },
  fuzz: {
    summary: 'damaged inputs to everything that reads what others wrote',
    load: () => import('./cmd/fuzz.ts'),
  },
  'client-node': {
    summary: 'lower the limits of a node with NFS clients, so that they leave a lost node',
    load: () => import('./cmd/client-node.ts'),
  },
  filer: { summary: 'one filer (what a pod runs)', load: () => import('./cmd/filer.ts') },
  operator: { summary: 'the operator', load: () => import('./cmd/operator.ts') },
  gen: {
    summary: 'write the generated files: CRDs, chart, manifests, reference',
    load: () => import('./cmd/gen.ts'),
  },
}

/** Started by `up` only; no use by hand. */
const internal: Readonly<Record<string, Command['load']>> = {
  store: () => import('./cmd/store.ts'),
  relay: () => import('./cmd/relay.ts'),
}

function help(): string {
  const lines = Object.entries(commands).map(([name, command]) => `  ${name.padEnd(13)}${command.summary}`)
  return `tandem: filer pairs, on Kubernetes or on this machine alone

Usage: tandem VERB [ARGUMENTS]      tandem VERB --help

${lines.join('\n')}

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 69 no suitable Node.js, 75 not now (try again), 124 time is up.
docs/embedded.md describes every verb.`
}

async function main(argv: readonly string[]): Promise<number> {
  const [verb, ...args] = argv
  if (verb === undefined || verb === 'help' || verb === '--help' || verb === '-h') {
    const asked = verb === 'help' ? args[0] : undefined
    const command = asked === undefined ? undefined : commands[asked]
    if (command !== undefined) return (await command.load()).run(['--help'])
    if (asked === undefined) {
      console.log(help())
      return verb === undefined ? 2 : 0
    }
    return unknownVerb(asked)
  }
  const load = commands[verb]?.load ?? internal[verb]
  if (load === undefined) return unknownVerb(verb)
  return (await load()).run(args)
}

function unknownVerb(verb: string): number {
  const near = nearest(verb, Object.keys(commands))
  console.error(
    `tandem: no verb ${JSON.stringify(verb)}${near === undefined ? '' : `; the nearest is "${near}"`} (tandem help lists them)`,
  )
  return 2
}

// A child of `up` must not outlive it, not even its kill -9: the channel closes with the parent.
if (process.env['TANDEM_CHILD'] === '1' && process.channel) process.once('disconnect', () => process.exit(1))

const argv = process.argv.slice(2)
let status = 1
try {
  status = await main(argv)
} catch (error) {
  const message = error instanceof Error ? error.message : String(error)
  console.error(`tandem ${argv[0] ?? ''}: ${message}`)
  if (process.env['TANDEM_DEBUG'] !== undefined) console.error(error)
}
// Sockets that keep the loop alive (a gRPC client, a watch) are no reason to stay.
process.stdout.write('', () => process.exit(status))

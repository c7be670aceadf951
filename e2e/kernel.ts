/**
 * `make kernel`: programs on a real Linux kernel's NFSv3 mount of a pair, beside the same programs on that kernel's own NFS server.
 *
 *   kernel.ts [--suites "git tree …"] [--files N] [--entries N] [--operations N]
 *             [--volume flexible|traditional] [--only tandem|knfsd] [--keep]
 *
 * A pair in embedded mode in a network namespace of its own, and one guest kernel after the other (e2e/nfs/kernel-client.sh): the
 * first mounts the volume exactly by `status.mount`, the second an XFS that it serves itself by knfsd. Both run the same suites
 * (e2e/nfs/suites). A suite fails by itself when a program does; and what a suite states as facts must be the same on both
 * sides, or be one of the `differences` below, each of which has its reason. Needs root. No Kubernetes.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { Embedded } from './lib/embedded.ts'
import { inNamespace } from './lib/namespace.ts'
import { end, ended, keep, run, until } from './lib/process.ts'
import { endFolder, stateFolder, sweep } from './lib/state.ts'

const nfs = join(import.meta.dirname, 'nfs')
const allSuites = [
  'posix',
  'fsx',
  'readdir',
  'fio',
  'sqlite',
  'git',
  'tree',
  'takeover',
  'snapshot',
  'postgres',
]
/** What only makes sense beside a second filer. */
const ofPairs = new Set(['takeover', 'snapshot'])
const programs = {
  tree: ['tree.c'],
  fsx: ['fsx.c'],
  readdir: ['readdir.c'],
  posix: ['posix.c', 'posix-names.c', 'posix-times.c', 'posix-owners.c', 'posix-data.c'],
}
type Side = 'tandem' | 'knfsd'

const { values } = parseArgs({
  options: {
    suites: { type: 'string', default: allSuites.join(' ') },
    files: { type: 'string', default: '2000' },
    entries: { type: 'string', default: '5000' },
    operations: { type: 'string', default: '1500' },
    volume: { type: 'string', default: 'flexible' },
    only: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
})

/** Facts in which this server and knfsd on XFS may differ, by suite and the fact's beginning; the reason is printed. */
const differences: { fact: string; reason: string }[] = [
  {
    fact: 'posix: names: rename("d", "full") = ENOTEMPTY',
    reason: 'POSIX leaves the choice; XFS says EEXIST, ext4 ENOTEMPTY as we do',
  },
  { fact: 'posix: names: symlink of 1024 bytes = ok', reason: 'XFS ends at 1023 bytes' },
  {
    fact: "posix: owners: mode after its owner's truncate = '0755'",
    reason:
      'a change of content takes set-user-id away, as local file systems do on truncation and knfsd does not',
  },
  { fact: 'posix: data: a byte at 16 TiB = EFBIG', reason: 'our files end at 16 TiB, those of XFS at 8 EiB' },
  {
    fact: 'posix: data: ftruncate(fd, 16 * TIB + 1) = EFBIG',
    reason: 'our files end at 16 TiB, those of XFS at 8 EiB',
  },
]

const devices = '[{ name: d, count: 2, size: 4Gi }]'
const kinds: Record<string, { aggregates: string; volume: string }> = {
  flexible: {
    aggregates: `[{ name: aggr1, filer: a, deviceSets: ${devices} }]`,
    volume: 'aggregate: aggr1, size: 4Gi',
  },
  traditional: {
    aggregates: '[{ name: aggr1, filer: b, deviceSets: [{ name: d, count: 1, size: 256Mi }] }]',
    volume: `type: Traditional, filer: a, deviceSets: ${devices}`,
  },
}

const manifestsOf = ({ aggregates, volume }: { aggregates: string; volume: string }): string => `
apiVersion: tandem.storage/v1alpha1
kind: FilerPair
metadata: { name: east }
spec:
  aggregates: ${aggregates}
  log: { size: 64Mi }
  cacheSize: 128Mi
  placement: { spread: Preferred }
  takeover: { giveback: Manual }
---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: home }
spec: { pairName: east, ${volume}, export: { rules: [{ clients: [10.78.0.0/24], access: ReadWrite, squash: None }] } }
`

/** The guest's card, and the way from it to a port that the pair's Service has on this namespace's loopback. */
async function connectGuest(port: number): Promise<void> {
  await run(['ip', 'tuntap', 'add', 'tap0', 'mode', 'tap'])
  await run(['ip', 'addr', 'add', '10.78.0.1/24', 'dev', 'tap0'])
  await run(['ip', 'link', 'set', 'tap0', 'up'])
  writeFileSync('/proc/sys/net/ipv4/conf/tap0/route_localnet', '1')
  await run([
    'iptables',
    '-t',
    'nat',
    '-A',
    'PREROUTING',
    '-i',
    'tap0',
    '-p',
    'tcp',
    '--dport',
    String(port),
    '-j',
    'DNAT',
    '--to-destination',
    `127.0.0.1:${port}`,
  ])
}

/** What the guest finds in the folder that it shares with this machine: suites, their programs, and a repository to clone. */
async function fill(folder: string): Promise<void> {
  cpSync(join(nfs, 'suites'), join(folder, 'suites'), { recursive: true })
  mkdirSync(join(folder, 'bin'))
  for (const [name, sources] of Object.entries(programs))
    await run(['gcc', '-O2', '-o', join(folder, 'bin', name), ...sources.map((source) => join(nfs, source))])
  const git = [
    'git',
    '-c',
    'protocol.file.allow=always',
    '-c',
    'user.name=t',
    '-c',
    'user.email=t@example.invalid',
  ]
  await run([...git, 'clone', '-q', '--bare', join(import.meta.dirname, '..'), join(folder, 'project.git')])
  const made = join(folder, 'super')
  await run([...git, 'init', '-q', '-b', 'main', made])
  await run([
    ...git,
    '-C',
    made,
    'submodule',
    '--quiet',
    'add',
    `file://${join(folder, 'project.git')}`,
    'project',
  ])
  await run([...git, '-C', made, 'commit', '-q', '-m', 'a submodule'])
  await run([...git, 'clone', '-q', '--bare', made, join(folder, 'super.git')])
}

interface SuiteResult {
  suite: string
  passed: boolean
  seconds: number
}

/** Boots a guest that runs the suites against one side; resolves when it has ended. */
async function guest(
  folder: string,
  side: Side,
  mount: { server: string; path: string; options: string },
  suites: string[],
  meanwhile: (out: string, over: () => boolean) => Promise<void>,
): Promise<SuiteResult[]> {
  const out = join(folder, side)
  mkdirSync(out)
  const disk = join(folder, 'disk')
  writeFileSync(disk, '')
  truncateSync(disk, 8 * 2 ** 30)
  // The tree that is copied is in the guest's memory, half of which a tmpfs may take: some 6 KiB a file.
  const variables = [`FILES=${values.files}`, `ENTRIES=${values.entries}`, `FSX_OPS=${values.operations}`]
  const child = keep(
    [
      join(nfs, 'kernel-client.sh'),
      String(process.pid),
      folder,
      join(nfs, 'suites.sh'),
      side,
      mount.server,
      mount.path,
      mount.options,
      ...variables,
      ...suites,
    ],
    join(folder, `${side}-console.log`),
    { env: { GUEST_MEMORY: `${1500 + Math.ceil(Number(values.files) / 80)}M`, GUEST_DISK: disk } },
  )
  const shown = new Set<string>()
  const results = (): SuiteResult[] =>
    (existsSync(join(out, 'results')) ? readFileSync(join(out, 'results'), 'utf8') : '')
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const [suite, status, ms] = line.split(' ') as [string, string, string]
        return { suite, passed: status === '0', seconds: Number(ms) / 1000 }
      })
  const show = (): void => {
    for (const { suite, passed, seconds } of results()) {
      if (shown.has(suite)) continue
      shown.add(suite)
      console.log(
        `${passed ? 'ok    ' : 'FAILED'} ${side.padEnd(6)} ${suite.padEnd(9)} ${seconds.toFixed(1).padStart(6)} s`,
      )
      if (!passed)
        console.log(
          readFileSync(join(out, `${suite}.log`), 'utf8')
            .trimEnd()
            .split('\n')
            .slice(-15)
            .map((line) => `         ${line}`)
            .join('\n'),
        )
    }
  }
  const gone = once(child, 'exit')
  const timer = setInterval(show, 500)
  try {
    await Promise.race([gone, meanwhile(out, () => ended(child)).then(() => gone)])
  } finally {
    clearInterval(timer)
    if (!ended(child)) await end(child)
  }
  show()
  const found = results()
  const missing = suites.filter((suite) => !found.some((result) => result.suite === suite))
  if (missing.length > 0)
    throw new Error(
      `the ${side} guest ended before ${missing.join(', ')}: ${readFileSync(join(folder, `${side}-console.log`), 'utf8').slice(-1500)}`,
    )
  return found
}

/** Facts of a suite that differ between the sides; those with a known reason are printed only. */
function compare(folder: string, suite: string): string[] {
  const facts = (side: Side): string[] =>
    readFileSync(join(folder, side, `${suite}.facts`), 'utf8')
      .split('\n')
      .filter(Boolean)
  const ours = facts('tandem')
  const theirs = facts('knfsd')
  const wrong: string[] = []
  const longer = Math.max(ours.length, theirs.length)
  for (let n = 0; n < longer; n++) {
    if (ours[n] === theirs[n]) continue
    const told = `${suite}: ${ours[n] ?? 'nothing'}; knfsd: ${theirs[n] ?? 'nothing'}`
    const known = differences.find(({ fact }) => `${suite}: ${ours[n]}`.startsWith(fact))
    if (known !== undefined) {
      console.log(`differs ${told} (${known.reason})`)
      continue
    }
    wrong.push(told)
    if (nameOf(ours[n]) === nameOf(theirs[n])) continue
    wrong.push(`${suite}: the rest was not compared: the sides tell of different things from here`)
    break
  }
  return wrong
}

const nameOf = (fact: string | undefined): string | undefined => fact?.slice(0, fact.lastIndexOf(' = '))

async function main(): Promise<number> {
  await run(['ip', 'link', 'set', 'lo', 'up'])
  await sweep('kernel-guest')
  const folder = stateFolder('kernel-guest')
  const suites = values.suites.split(' ').filter(Boolean)
  let failed = 0
  let passed = 0
  let error = ''
  let pair: Embedded | undefined
  try {
    await fill(folder)
    if (values.only !== 'knfsd') {
      pair = await Embedded.start('kernel', manifestsOf(kinds[values.volume]!))
      const { path, port, options } = await pair.mountLine()
      await connectGuest(port)
      console.log(`mount -t nfs -o ${options} 10.78.0.1:${path}`)
      const snapshots = async (out: string, over: () => boolean): Promise<void> => {
        if (!suites.includes('snapshot')) return
        for (const [sign, verb, told] of [
          ['snapshot-wanted', 'create', 'snapshot-made'],
          ['snapshot-unwanted', 'delete', 'snapshot-gone'],
        ] as const) {
          await until(sign, 3_600_000, () => over() || existsSync(join(out, sign)), 20)
          if (over()) return
          const ordered = await pair!.tandem('snapshot', verb, 'home', 'first')
          if (ordered.status !== 0) throw new Error(`tandem snapshot ${verb}: ${ordered.stderr}`)
          writeFileSync(join(out, told), '')
        }
      }
      const killFilers = async (out: string, over: () => boolean): Promise<void> => {
        if (!suites.includes('takeover')) return
        const seen = (name: string): Promise<boolean> =>
          until(`${name} is there`, 3_600_000, () => over() || existsSync(join(out, name)), 20)
        const kill = (filer: string, told: string): void => {
          if (!pair!.kill(filer)) throw new Error(`filer ${filer} does not run`)
          writeFileSync(join(out, told), '')
        }
        await seen('tar-goes')
        if (over()) return
        kill('a', 'killed-first')
        await pair!.redundant()
        writeFileSync(join(out, 'redundant'), '')
        await seen('rm-goes')
        if (over()) return
        kill('b', 'killed-second')
      }
      for (const { passed: well } of await guest(
        folder,
        'tandem',
        { server: '10.78.0.1', path, options },
        suites,
        (out, over) => Promise.all([killFilers(out, over), snapshots(out, over)]).then(() => undefined),
      )) {
        passed += well ? 1 : 0
        failed += well ? 0 : 1
      }
      await pair.stop(values.keep || failed > 0)
      if (failed > 0) console.log(`the pair's state and logs: ${pair.folder}`)
      pair = undefined
    } else await connectGuest(2049)
    if (values.only !== 'tandem') {
      const options = 'vers=3,hard,nolock,noresvport,proto=tcp,port=2049,mountport=20048'
      const both = suites.filter((suite) => !ofPairs.has(suite))
      for (const { passed: well } of await guest(
        folder,
        'knfsd',
        { server: '127.0.0.1', path: '/mnt/export', options },
        both,
        async () => {},
      )) {
        passed += well ? 1 : 0
        failed += well ? 0 : 1
      }
      if (values.only === undefined) {
        const wrong = both.flatMap((suite) => compare(folder, suite))
        for (const line of wrong) console.log(`DIFFERS ${line}`)
        failed += wrong.length
      }
    }
  } catch (caught) {
    error = caught instanceof Error ? caught.message : String(caught)
    failed++
    console.log(`FAILED: ${error}`)
  } finally {
    await pair?.stop(true)
    const kept = values.keep || failed > 0
    endFolder(folder, kept)
    if (kept) console.log(`logs: ${folder}`)
  }
  console.log(`kernel: ${passed} passed, ${failed} failed`)
  return failed === 0 ? 0 : 1
}

/** What is wrong with the arguments, if anything. */
function mistake(): string | undefined {
  const unknown = values.suites.split(' ').filter((suite) => suite !== '' && !allSuites.includes(suite))
  if (unknown.length > 0) return `no such suite: ${unknown.join(' ')} (suites are ${allSuites.join(' ')})`
  if (kinds[values.volume] === undefined) return `--volume is ${Object.keys(kinds).join(' or ')}`
  if (values.only !== undefined && values.only !== 'tandem' && values.only !== 'knfsd')
    return '--only is tandem or knfsd'
  return undefined
}

const wrong = mistake()
if (wrong !== undefined) {
  console.error(`kernel: ${wrong}`)
  process.exitCode = 2
} else if (process.env['TANDEM_NAMESPACE'] === undefined) {
  await run([join(import.meta.dirname, 'setup.sh'), 'kernel'], { timeoutMs: 600_000 })
  process.exitCode = inNamespace()
} else process.exitCode = await main()

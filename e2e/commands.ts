/**
 * `make commands`: what a person asks of a pair, on real processes under load: drill, takeover and giveback, a report, the Lease deleted and
 * put back to an older one, a new template (update), a stop and a new start, a filer whose log and disks are replaced. After each step everything acknowledged is read back and compared.
 *
 *   commands.ts [--seed S] [--keep]
 */
import { parseArgs } from 'node:util'
import type { KubeObject } from '../src/edge/kube/api.ts'
import { KubeClient } from '../src/edge/kube/client.ts'
import { CLAIMS, FILER_PAIRS, LEASES, PODS, SECRETS } from '../src/edge/kube/resources.ts'
import { statusOf } from '../src/embedded/cli/pair-moves.ts'
import { Load } from '../src/nfs/load/load.ts'
import { join } from 'node:path'
import { Embedded } from './lib/embedded.ts'
import { run, until } from './lib/process.ts'
import { onePair } from './lib/one-pair.ts'

const manifests = onePair({
  devices: { count: 1, size: '256Mi' },
  log: '32Mi',
  cache: '64Mi',
  volume: '128Mi',
})
const WORKERS = 4
const WAIT_MS = 120_000

const { values } = parseArgs({ options: { seed: { type: 'string' }, keep: { type: 'boolean' } } })
const seed = Number(values.seed ?? Math.floor(Math.random() * 1e9))
console.log(`commands: seed ${seed}`)
const pair = await Embedded.start('commands', manifests)
const api = new KubeClient({ server: `unix:${join(pair.state, 'store.sock')}` }, { fieldManager: 'test' })
const load = await Load.open([{ mount: await pair.mountPoint(), workers: WORKERS }], { seed })

const change = (spec: object): Promise<unknown> => api.mergePatch(FILER_PAIRS, 'default', 'east', { spec })
const goesOn = async (): Promise<void> => {
  const before = load.operations
  await until(
    'clients are served',
    WAIT_MS,
    () => load.operations > before + 2 * WORKERS || load.failure !== undefined,
  )
}
async function tandem(verb: string, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await pair.tandem(verb, ...args)
  if (status !== 0) throw new Error(`tandem ${verb} ended with ${status}: ${stderr}${stdout}`)
  return stdout.trim()
}
const podUids = async (): Promise<string[]> =>
  Promise.all(['a', 'b'].map(async (f) => (await api.get(PODS, 'default', `east-${f}-0`)).metadata.uid ?? ''))
const VOTE = 'tandem.storage/vote'
interface Votes {
  readonly sides: Record<string, { owner: string; mirrored: boolean; epoch: number }>
}
const lease = (): Promise<KubeObject> => api.get(LEASES, 'default', 'east')
async function votes(): Promise<Votes['sides']> {
  const text = (await lease()).metadata.annotations?.[VOTE]
  return text === undefined ? {} : (JSON.parse(text) as Votes).sides
}
/** Both filers write anew what the vote has lost, above every number that anybody may have heard of, with the owners that there were. */
async function rewritten(before: Votes['sides'], lost: readonly string[]): Promise<string> {
  await until('the record is written anew', WAIT_MS, async () => {
    const now = await votes()
    return Object.entries(before).every(
      ([side, { epoch }]) => (now[side]?.epoch ?? 0) >= epoch + (lost.includes(side) ? 1 : 0),
    )
  })
  const now = await votes()
  for (const [side, { owner }] of Object.entries(before))
    if (now[side]!.owner !== owner) throw new Error(`side ${side} went from ${owner} to ${now[side]!.owner}`)
  return Object.entries(now)
    .map(
      ([side, { epoch, owner }]) =>
        `side ${side}: epoch ${before[side]!.epoch}, now ${epoch}, owner ${owner} as before`,
    )
    .join('\n')
}
const whole = async (): Promise<void> => {
  await pair.redundant(WAIT_MS)
  await pair.condition('TakeoverPossible', 'fp/east', WAIT_MS)
}

const steps: readonly [string, () => Promise<string>][] = [
  [
    'drill',
    async () => {
      const told = await tandem('drill', 'east')
      if ((told.match(/clients waited \d+ ms/g) ?? []).length < 2)
        throw new Error(`drill did not tell what clients waited: ${told}`)
      return told
    },
  ],
  [
    'takeover and giveback',
    async () => {
      const away = await tandem('takeover', 'east', 'a')
      await goesOn()
      const status = await tandem('status', 'east')
      for (const part of ['Maintenance: filer a', 'Takeover: possible', 'TakenOver'])
        if (!status.includes(part))
          throw new Error(`tandem status does not say ${JSON.stringify(part)}:\n${status}`)
      return `${away}\n${await tandem('giveback', 'east')}`
    },
  ],
  [
    'report',
    async () => {
      const file = join(pair.folder, 'report.tar.gz')
      const told = await tandem('report', 'east', `--output=${file}`)
      const text = await run(['tar', '-xzOf', file])
      for (const part of [
        'kind: FilerPair',
        'kind: Lease',
        'tandem_side_serving{side="a"}',
        'side served here',
        'Takeover: possible',
      ])
        if (!text.includes(part)) throw new Error(`the report has no ${JSON.stringify(part)}`)
      // Every line of every key and certificate that there is, as it is and as Secrets have it.
      const { items: secrets } = await api.list(SECRETS, { namespace: 'default' })
      const lines = secrets.flatMap(({ data }) =>
        Object.values(data as Record<string, string>).flatMap((base64) => [
          ...Buffer.from(base64, 'base64')
            .toString()
            .split('\n')
            .filter((line) => line.length >= 40),
          ...(base64.match(/.{60}/g) ?? []),
        ]),
      )
      if (lines.length < 50) throw new Error(`only ${lines.length} lines of Secrets to look for`)
      const found = lines.filter((line) => text.includes(line))
      if (found.length > 0) throw new Error(`the report has ${found.length} lines of Secrets`)
      return `${told}\nnone of ${lines.length} pieces of keys and certificates is in it`
    },
  ],
  [
    'the Lease is deleted',
    async () => {
      const [before, { metadata }] = [await votes(), await lease()]
      await api.mergePatch(LEASES, 'default', 'east', { metadata: { finalizers: null } })
      await api.delete(LEASES, 'default', 'east')
      await until('the operator has made a Lease', WAIT_MS, async () => {
        const made = await lease().catch(() => undefined)
        return made !== undefined && made.metadata.uid !== metadata.uid
      })
      return rewritten(before, Object.keys(before))
    },
  ],
  [
    'an old Lease is restored',
    async () => {
      const text = (await lease()).metadata.annotations![VOTE]!
      await tandem('takeover', 'east', 'a')
      await tandem('giveback', 'east')
      await whole()
      const before = await votes()
      const old = JSON.parse(text) as Votes
      const moved = Object.keys(before).filter((side) => before[side]!.epoch > old.sides[side]!.epoch)
      if (!moved.includes('a')) throw new Error('the epoch of side a did not move')
      await api.mergePatch(LEASES, 'default', 'east', { metadata: { annotations: { [VOTE]: text } } })
      return rewritten(before, moved)
    },
  ],
  [
    'update',
    async () => {
      const before = await podUids()
      await change({ cacheSize: '80Mi' })
      await until('both pods are new', WAIT_MS, async () => {
        const now = await podUids().catch(() => before)
        return now.every((uid, i) => uid !== '' && uid !== before[i])
      })
      await pair.condition('UpToDate', 'fp/east', WAIT_MS)
      return 'both pods run the new template'
    },
  ],
  [
    'state: Stopped, then Running',
    async () => {
      await change({ state: 'Stopped' })
      await until('no filer runs', WAIT_MS, () => pair.filers().size === 0)
      await until('Ready says Stopped', WAIT_MS, async () => {
        const { conditions = [] } = statusOf(await api.get(FILER_PAIRS, 'default', 'east'))
        return conditions.some((c) => c.type === 'Ready' && c.reason === 'Stopped')
      })
      await change({ state: 'Running' })
      await pair.ready(WAIT_MS)
      return 'both filers ended by themselves and are back'
    },
  ],
  [
    'a lost filer is replaced',
    async () => {
      const claims = ['east-b-log', 'east-b-aggr-aggr1-d-0']
      const uids = (): Promise<string[]> =>
        Promise.all(
          [...claims.map((name) => [CLAIMS, name] as const), [PODS, 'east-b-0'] as const].map(
            async ([resource, name]) => (await api.get(resource, 'default', name)).metadata.uid ?? '',
          ),
        )
      const before = await uids()
      // On a busy machine a takeover may have come since: what only filer b has would be lost with it.
      await until('both copies are current', WAIT_MS, async () =>
        Object.values(await votes()).every(({ mirrored }) => mirrored),
      )
      await tandem('delete', '--no-wait', 'pvc', ...claims)
      await tandem('delete', 'pod', 'east-b-0', '--force')
      await until('claims and pod are new', WAIT_MS, async () => {
        const now = await uids().catch(() => before)
        return now.every((uid, i) => uid !== '' && uid !== before[i])
      })
      return 'claims and pod of filer b were deleted; it was filled from filer a'
    },
  ],
]

let failed = ''
let passed = 0
try {
  await whole()
  // A filer that was late at the first start may have been taken over from.
  await tandem('giveback', 'east', '--timeout=60s')
  load.resume()
  for (const [name, step] of steps) {
    const began = performance.now()
    try {
      await goesOn()
      const told = await step()
      await goesOn()
      await whole()
      await load.pause()
      const { differences } = await load.verify()
      if (load.failure !== undefined) throw load.failure
      if (differences.length > 0) throw new Error(differences.slice(0, 10).join('\n'))
      load.resume()
      const seconds = ((performance.now() - began) / 1000).toFixed(1)
      console.log(`ok     ${name} (${seconds} s)\n${told.replace(/^/gm, '         ')}`)
      passed++
    } catch (error) {
      failed = `FAILED ${name}: ${error instanceof Error ? error.message : String(error)}\n  state and logs: ${pair.folder}`
      break
    }
  }
} catch (error) {
  failed = `FAILED: ${error instanceof Error ? error.message : String(error)}\n  state and logs: ${pair.folder}`
} finally {
  load.close()
  api.close()
  await pair.stop(failed !== '' || values.keep === true)
}
if (failed !== '') console.log(failed)
console.log(`${passed} of ${steps.length} steps, ${load.operations} operations compared, seed ${seed}`)
process.exitCode = failed === '' ? 0 : 1

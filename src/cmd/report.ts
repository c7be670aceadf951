/** `tandem report`: everything that helps to understand a pair from afar, in one archive. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { UsageError, withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget, runningDir } from '../embedded/cli/connection.ts'
import { gatherReport } from '../embedded/cli/report.ts'
import { clusterSources, embeddedSources } from '../embedded/cli/report-sources.ts'
import { tar } from '../embedded/cli/tar.ts'

const LINES = 2000
const LINES_MAX = 100_000

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'report',
      summary: 'gather what somebody needs who is to help, in one file, without secrets',
      operands: '[PAIR]',
      operandsMin: 0,
      operandsMax: 1,
      flags: {
        state: STATE_FLAG,
        namespace: NAMESPACE_FLAG,
        output: { kind: 'text', short: 'o', value: 'FILE', meaning: 'default tandem-report-<time>.tar.gz' },
        lines: { kind: 'text', value: 'N', meaning: `of each log, the last ones; default ${LINES}` },
        'operator-namespace': { kind: 'text', value: 'NAMESPACE', meaning: 'default tandem-system' },
      },
    },
    args,
    async (parsed) => {
      const lines = Number(parsed.text('lines') ?? LINES)
      if (!Number.isInteger(lines) || lines < 1 || lines > LINES_MAX)
        throw new UsageError(`--lines is a whole number from 1 to ${LINES_MAX}`)
      const { api, namespace } = await openTarget(parsed)
      const state = parsed.text('state')
      const sources =
        state === undefined
          ? clusterSources(api, lines, parsed.text('operator-namespace') ?? 'tandem-system')
          : embeddedSources(runningDir(state), lines)
      const nowMs = Date.now()
      const { version } = JSON.parse(
        readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'),
      ) as { version: string }
      const versions = {
        tandem: version,
        node: process.version,
        system: `${process.platform} ${process.arch}`,
      }
      const [pair] = parsed.operands
      const files = await gatherReport(api, sources, { namespace, pair, versions, nowMs })
      const at = new Date(nowMs).toISOString().replace(/[-:]|[.].*/g, '')
      const path = parsed.text('output') ?? `tandem-report-${at}.tar.gz`
      // Of nobody's business but its maker's: names, addresses and sizes are in it.
      writeFileSync(path, gzipSync(tar(prefixed(files, `tandem-report-${at}`), Math.floor(nowMs / 1000))), {
        mode: 0o600,
      })
      console.log(
        `${path}: ${files.size} files, without Secrets, keys and certificates; names and addresses are in it`,
      )
      const missing = files.get('missing.txt')
      if (missing !== undefined)
        console.error(`missing in it:\n${missing.replace(/^(?=.)/gm, '  ')}`.trimEnd())
      return 0
    },
  )
}

function prefixed(files: ReadonlyMap<string, string>, folder: string): Map<string, string> {
  return new Map([...files].map(([name, text]) => [`${folder}/${name}`, text]))
}

/**
 * `gen`: writes every generated file from its source in src/; `gen --check` writes nothing and exits 1 if a file differs from what
 * would be written. The protobuf code has a generator of its own (scripts/proto.ts).
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { customResourceDefinition } from '../api/crd.ts'
import { reference } from '../api/reference.ts'
import { kinds } from '../api/v1alpha1/kinds.ts'
import { metricsMarkdown } from '../edge/telemetry/catalogue.ts'
import { installFiles, yaml } from '../operator/install/files.ts'

const root = join(import.meta.dirname, '../..')

/** Contents by path. */
export function outputs(): ReadonlyMap<string, string> {
  const files = new Map<string, string>()
  for (const kind of kinds)
    files.set(`crds/${kind.group}_${kind.plural}.yaml`, yaml(customResourceDefinition(kind)))
  files.set('docs/reference.md', reference(kinds))
  files.set('docs/metrics.md', metricsMarkdown())
  for (const [path, content] of installFiles()) files.set(path, content)
  return files
}

/** Paths of files that are not what their source says. */
export function check(): string[] {
  return [...outputs()]
    .filter(([path, content]) => readIfThere(join(root, path)) !== content)
    .map(([path]) => path)
}

export async function run(args: readonly string[]): Promise<number> {
  if (args.length > 1 || (args[0] !== undefined && args[0] !== '--check')) {
    console.error('usage: tandem gen [--check]')
    return 64
  }
  const stale = check()
  if (args[0] === '--check') {
    for (const path of stale) console.error(`${path} is not what its source says; run \`make gen\``)
    if (stale.length === 0) console.log('drift: ok')
    return stale.length === 0 ? 0 : 1
  }
  const files = outputs()
  for (const path of stale) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), files.get(path)!)
    console.log(`wrote ${path}`)
  }
  return 0
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

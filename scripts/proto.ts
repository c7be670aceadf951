/**
 * Regenerates src/proto/gen from src/proto/*.proto. `--check` changes nothing and fails if the committed files differ.
 * Both tools (buf, ts-proto) are packages of this project; nothing is fetched.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const committed = join(root, 'src/proto/gen')

function generate(into: string): void {
  execFileSync(
    join(root, 'node_modules/.bin/buf'),
    ['generate', 'src/proto', '--template', 'buf.gen.yaml', '--output', into],
    { cwd: root, stdio: 'inherit' },
  )
}

if (process.argv.includes('--check')) {
  const scratch = mkdtempSync(join(tmpdir(), 'tandem-proto-'))
  try {
    generate(scratch)
    const fresh = join(scratch, 'src/proto/gen')
    const names = new Set([...readdirSync(fresh), ...readdirSync(committed)])
    const different = [...names].filter((name) => {
      try {
        return readFileSync(join(fresh, name), 'utf8') !== readFileSync(join(committed, name), 'utf8')
      } catch {
        return true
      }
    })
    if (different.length > 0) {
      console.error(`src/proto/gen is out of date (${different.join(', ')}): run node scripts/proto.ts`)
      process.exitCode = 1
    }
  } finally {
    rmSync(scratch, { recursive: true })
  }
} else {
  generate('.')
}

/**
 * lockfile.ts: completes package-lock.json after `npm install`.
 *
 * Packages with native parts name one optional dependency for each platform. A registry that offers only some platforms makes npm
 * leave the others out of the lock file, and then `npm ci` refuses that file everywhere ("Missing: … from lock file"). The
 * missing entries hold nothing but version and platform, which the name tells: they are written here.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

interface Entry {
  version?: string
  dev?: boolean
  optional?: boolean
  os?: string[]
  cpu?: string[]
  optionalDependencies?: Record<string, string>
}
export interface Lock {
  packages: Record<string, Entry>
}

const processors: Record<string, string> = { aarch64: 'arm64', armv7: 'arm' }

/** Optional dependencies that have no entry: name, version and whether only development needs them. */
export function missing(lock: Lock): { name: string; version: string; dev: boolean }[] {
  const found = new Map<string, { name: string; version: string; dev: boolean }>()
  for (const [path, entry] of Object.entries(lock.packages))
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      const has = [`node_modules/${name}`, `${path}/node_modules/${name}`].some((key) => key in lock.packages)
      if (!has) found.set(name, { name, version, dev: entry.dev === true })
    }
  return [...found.values()]
}

/** The entry of a platform's package, from its name: …-darwin-arm64, …-linux-x64-musl. */
export function entryOf(wanted: { name: string; version: string; dev: boolean }): Entry {
  const match = /-(darwin|win32|linux|freebsd|android|openharmony)-(.+)$/.exec(wanted.name)
  if (match === null || !/^\d/.test(wanted.version))
    throw new Error(`not a package for one platform: ${wanted.name}@${wanted.version}`)
  const word = match[2]!.split('-')[0]!
  const cpu = processors[word] ?? word
  return {
    version: wanted.version,
    cpu: [cpu],
    ...(wanted.dev ? { dev: true } : {}),
    optional: true,
    os: [match[1]!],
  }
}

if (import.meta.main) {
  const path = join(import.meta.dirname, '../package-lock.json')
  const lock = JSON.parse(readFileSync(path, 'utf8')) as Lock
  const absent = missing(lock)
  for (const wanted of absent) lock.packages[`node_modules/${wanted.name}`] = entryOf(wanted)
  lock.packages = Object.fromEntries(
    Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)),
  )
  writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`)
  console.log(`package-lock.json: ${absent.length} entries added`)
}

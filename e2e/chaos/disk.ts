/**
 * Disks of limited size, to fill: each filer's claims are moved to a tmpfs of its own. Mounts need root, or a user namespace of one's own; the test
 * runs in a mount namespace, so they end with it, and nobody else sees them.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync, symlinkSync, writeSync } from 'node:fs'
import { basename, join } from 'node:path'
import { run } from '../lib/process.ts'

/** Of one filer; its sparse devices could grow to twice as much. */
const DISK = '1g'
const FILLER = 'filler'

/** This program once more in a mount namespace that ends with it; gives its exit status, or undefined in there. */
export function inMountNamespace(): number | undefined {
  if (process.env['TANDEM_CHAOS_NAMESPACE'] === '1') return undefined
  const user = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']
  const program = [process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const child = spawnSync(
    'setpriv',
    ['--pdeathsig', 'KILL', '--', 'unshare', '--mount', ...user, '--', ...program],
    {
      stdio: 'inherit',
      env: { ...process.env, TANDEM_CHAOS_NAMESPACE: '1' },
    },
  )
  return child.status ?? 1
}

export class Disk {
  readonly #folder: string
  readonly #claims: readonly string[]

  private constructor(folder: string, claims: readonly string[]) {
    this.#folder = folder
    this.#claims = claims
  }

  /** Moves these folders to a new disk at `folder`; nobody may use them meanwhile. */
  static async make(folder: string, claims: readonly string[]): Promise<Disk> {
    mkdirSync(folder)
    await run(['mount', '-t', 'tmpfs', '-o', `size=${DISK},mode=0700`, 'tandem-chaos', folder])
    for (const claim of claims) {
      const there = join(folder, basename(claim))
      await run(['cp', '-a', '--sparse=always', claim, there])
      rmSync(claim, { recursive: true })
      symlinkSync(there, claim)
    }
    return new Disk(folder, claims)
  }

  /** Somebody else's file takes all the space that is left. */
  fill(): void {
    const fd = openSync(join(this.#folder, FILLER), 'w')
    try {
      for (const bytes of [1 << 20, 4096]) {
        const zeros = Buffer.alloc(bytes)
        for (let written = bytes; written === bytes;) written = writeOrNothing(fd, zeros)
      }
    } finally {
      closeSync(fd)
    }
  }

  /** That file is removed. */
  clear(): void {
    rmSync(join(this.#folder, FILLER), { force: true })
  }

  /** Ends the disk; what was on it goes back to where it was, to be looked at, if it is to be kept. */
  async end(keep: boolean): Promise<void> {
    this.clear()
    for (const claim of this.#claims) {
      rmSync(claim)
      if (keep) await run(['cp', '-a', '--sparse=always', join(this.#folder, basename(claim)), claim])
    }
    await run(['umount', this.#folder])
  }
}

function writeOrNothing(fd: number, bytes: Buffer): number {
  try {
    return writeSync(fd, bytes)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return 0
    throw error
  }
}

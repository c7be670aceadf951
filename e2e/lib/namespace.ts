/** A test bed in a network namespace of its own. */
import { spawnSync } from 'node:child_process'

/** This program once more in a network namespace that ends with it (and TANDEM_NAMESPACE set); gives its exit status. */
export function inNamespace(): number {
  const again = [process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const child = spawnSync('setpriv', ['--pdeathsig', 'KILL', '--', 'unshare', '--net', '--', ...again], {
    stdio: 'inherit',
    // State in memory: the verdict does not depend on this machine's disk, its time would.
    env: { TMPDIR: '/dev/shm', ...process.env, TANDEM_NAMESPACE: '1' },
  })
  return child.status ?? 1
}

/**
 * `make api`: the operator's suites (every `*.api.ts` in src) against a real kube-apiserver, and everything that we ship
 * (manifests/, crds/) through that server's own validation, the alerts through Prometheus's (rules.ts). The server is started here and ends here (or with us).
 *
 * A suite finds the server by KUBECONFIG; with KUBECONFIG already set to a cluster of yours and TANDEM_API_EXTERNAL=1 no server is
 * started and the suites run there. Kubernetes 1.20.2 unless KUBEBUILDER_ASSETS names newer programs.
 */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { programs, startApiServer } from './lib/api-server.ts'
import { attempt, run } from './lib/process.ts'
import { checkRules } from './rules.ts'

const checkout = join(import.meta.dirname, '..')

/** Applies the definitions and lets the server check everything else without storing it. */
async function validateManifests(kubeconfig: string): Promise<number> {
  const kubectl = join(programs, 'kubectl')
  const files = (folder: string): string[] =>
    existsSync(join(checkout, folder))
      ? readdirSync(join(checkout, folder), { recursive: true, encoding: 'utf8' })
          .filter((name) => name.endsWith('.yaml'))
          .map((name) => join(checkout, folder, name))
          .sort()
      : []
  const environment = { env: { KUBECONFIG: kubeconfig } }
  let failed = 0
  // This old kubectl refuses CEL rules in its own validation, so the server's is asked for alone.
  const apply = async (file: string, dryRun: boolean): Promise<void> => {
    const result = await attempt(
      [kubectl, 'apply', '--validate=false', ...(dryRun ? ['--dry-run=server'] : []), '-f', file],
      environment,
    )
    console.log(`${result.status === 0 ? 'ok    ' : 'FAILED'} ${file.slice(checkout.length + 1)}`)
    if (result.status === 0) return
    failed++
    console.log(result.stderr)
  }
  const definitions = files('crds')
  for (const file of definitions) await apply(file, false)
  if (definitions.length > 0)
    await run([kubectl, 'wait', '--for=condition=Established', '--timeout=30s', 'crd', '--all'], environment)
  const install = join(checkout, 'manifests/install.yaml')
  if (existsSync(install)) await apply(install, false)
  for (const file of files('manifests')) if (file !== install) await apply(file, true)
  return failed
}

async function suites(kubeconfig: string): Promise<number> {
  const jest = join(checkout, 'node_modules/jest/bin/jest.js')
  const child = spawn(
    process.execPath,
    [
      '--experimental-vm-modules',
      '--disable-warning=ExperimentalWarning',
      jest,
      '--runInBand',
      '--testTimeout=120000',
      '--testMatch',
      '**/*.api.ts',
    ],
    {
      cwd: checkout,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, KUBECONFIG: kubeconfig, TANDEM_KUBECTL: join(programs, 'kubectl') },
    },
  )
  return new Promise((resolve) => child.on('close', (code) => resolve(code ?? 1)))
}

let status = 0
if (process.env['TANDEM_API_EXTERNAL'] === '1') {
  status = await suites(process.env['KUBECONFIG'] ?? join(homedir(), '.kube/config'))
} else {
  await run([join(import.meta.dirname, 'setup.sh'), 'api'], { timeoutMs: 3_600_000 })
  const began = performance.now()
  const server = await startApiServer('api')
  try {
    console.log(`api: kube-apiserver ready after ${((performance.now() - began) / 1000).toFixed(1)} s`)
    status = await suites(server.kubeconfig)
    if ((await validateManifests(server.kubeconfig)) > 0) status = 1
    if (!(await checkRules())) status = 1
  } finally {
    await server.stop()
  }
}
process.exitCode = status

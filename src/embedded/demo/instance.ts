/** An embedded instance as the demonstration has it: a `tandem up` of its own in a fresh folder, and the calls to it. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KubeClient } from '../../edge/kube/client.ts'
import type { KubeApi, KubeObject, Resource } from '../../edge/kube/api.ts'
import { CLI_MANAGER } from '../cli/connection.ts'
import { waitFor } from '../cli/wait.ts'
import type { Goal } from '../cli/wait.ts'
import { control } from '../up/control.ts'
import type { UpStatus } from '../up/control.ts'
import { MAIN, end, exited, hasExited } from '../up/processes.ts'
import { prepare } from '../up/state-dir.ts'
import type { StateDir } from '../up/state-dir.ts'

const START_WITHIN_MS = 30_000
const END_WITHIN_MS = 30_000

export class Instance {
  readonly dir: StateDir
  readonly api: KubeApi
  readonly #child: ChildProcess

  private constructor(dir: StateDir, api: KubeApi, child: ChildProcess) {
    this.dir = dir
    this.api = api
    this.#child = child
  }

  /** With the manifests applied; rejects with what `up` said when it refuses. */
  static async start(manifests: readonly string[]): Promise<Instance> {
    const dir = prepare(mkdtempSync(join(tmpdir(), 'tandem-demo-')))
    const log = openSync(join(dir.logs, 'up.log'), 'w', 0o600)
    const child = spawn(
      process.execPath,
      [
        '--disable-warning=ExperimentalWarning',
        MAIN,
        'up',
        '--state',
        dir.path,
        '--links',
        'relayed',
        ...manifests.flatMap((file) => ['-f', file]),
      ],
      { stdio: ['ignore', log, log, 'ipc'], detached: true, env: { ...process.env, TANDEM_CHILD: '1' } },
    )
    closeSync(log)
    const instance = new Instance(
      dir,
      new KubeClient({ server: `unix:${dir.storeSocket}` }, { fieldManager: CLI_MANAGER }),
      child,
    )
    const ready = new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve())
      void exited(child).then((how) => reject(new Error(`\`tandem up\` ended with ${how}`)))
      setTimeout(() => reject(new Error('`tandem up` is not ready in time')), START_WITHIN_MS).unref()
    })
    try {
      await ready
    } catch (error) {
      await instance.stop()
      throw new InstanceError((error as Error).message, dir)
    }
    return instance
  }

  status(): Promise<UpStatus> {
    return control(this.dir, '/status') as Promise<UpStatus>
  }

  order(path: string, body: unknown): Promise<unknown> {
    return control(this.dir, path, body)
  }

  /** Rejects, with what was seen last, when it is not so in time. */
  async until(
    what: string,
    resource: Resource,
    name: string,
    goal: Goal,
    withinMs: number,
  ): Promise<KubeObject> {
    const { met, object } = await waitFor(this.api, resource, 'default', name, goal, withinMs)
    if (met && object !== undefined) return object
    throw new Error(
      `${what}: not in ${String(withinMs / 1000)} s; ${resource.kind} ${name} says: ${summary(object)}`,
    )
  }

  /** Lets it outlive this process. */
  leave(): void {
    this.#child.send({ type: 'stay' })
    this.#child.disconnect()
    this.#child.unref()
  }

  async stop(): Promise<void> {
    if (!hasExited(this.#child)) await end(this.#child, END_WITHIN_MS)
  }

  /** Removes everything that was written. */
  remove(): void {
    rmSync(this.dir.path, { recursive: true, force: true })
  }
}

/** `up` did not come up; its folder and log are still there. */
export class InstanceError extends Error {
  readonly dir: StateDir
  constructor(message: string, dir: StateDir) {
    super(message)
    this.name = 'InstanceError'
    this.dir = dir
  }
}

function summary(object: KubeObject | undefined): string {
  if (object === undefined) return 'it is not there'
  const status = (object['status'] ?? {}) as {
    serving?: string
    conditions?: { type: string; status: string; reason?: string; message?: string }[]
  }
  const conditions = (status.conditions ?? []).map(
    ({ type, status: value, reason = '', message = '' }) => `${type}=${value} ${reason} (${message})`,
  )
  return (
    [...(status.serving === undefined ? [] : [`serving ${status.serving}`]), ...conditions].join('; ') ||
    'no status'
  )
}

/**
 * The three that are measured: a Tandem pair, NFS-Ganesha (one copy), GlusterFS (replica 2, by FUSE). Each runs on the same disk,
 * reached over a loopback or a virtual cable of this machine, in network namespaces where it needs standard ports, and ends with us.
 */
import type { ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Embedded } from '../e2e/lib/embedded.ts'
import { attempt, end, ended, keep, until } from '../e2e/lib/process.ts'
import { onePair } from '../e2e/lib/one-pair.ts'

export type SideName = 'tandem' | 'ganesha' | 'gluster'

export interface Side {
  readonly name: SideName
  /** Runs nfsbench (sides that speak NFS) or fio (Gluster's mount) where the side can be reached. */
  readonly reach:
    | { protocol: 'nfs'; prefix: string[]; address: string[] }
    | { protocol: 'posix'; prefix: string[]; folder: string }
  /** Ends it; its state and logs stay when asked for. */
  stop(keepLogs: boolean): Promise<string | undefined>
}

const here = import.meta.dirname

/** Starts a peer's script as the first process of namespaces of its own; gives that process's number. */
async function inNamespaces(
  script: string,
  folder: string,
  log: string,
): Promise<{ child: ChildProcess; init: number }> {
  mkdirSync(folder, { recursive: true })
  const child = keep(
    [
      'unshare',
      '--net',
      '--mount',
      '--pid',
      '--fork',
      '--kill-child=KILL',
      '--mount-proc',
      '--propagation',
      'private',
      script,
      folder,
    ],
    log,
  )
  const init = await until(
    `${script} has started`,
    10_000,
    () => {
      if (ended(child)) throw new Error(readFileSync(log, 'utf8').slice(-2000))
      const pid = Number(
        readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ')[0],
      )
      return pid > 0 && pid
    },
    20,
  )
  return { child, init }
}

async function endNamespaces(child: ChildProcess): Promise<undefined> {
  child.kill('SIGKILL')
  await end(child, 0)
}

export async function startGanesha(folder: string, nfsbench: string): Promise<Side> {
  const log = join(folder, 'ganesha.out')
  mkdirSync(folder, { recursive: true })
  const { child, init } = await inNamespaces(join(here, 'peers/ganesha.sh'), join(folder, 'ganesha'), log)
  const prefix = ['nsenter', '-t', String(init), '-n', '--']
  const address = ['-h', '127.0.0.1', '-p', '2049', '-m', '20048', '-e', join(folder, 'ganesha/data')]
  try {
    await until('NFS-Ganesha answers', 60_000, async () => {
      if (ended(child)) throw new Error(`it ended: ${readFileSync(log, 'utf8').slice(-500)}`)
      return (await attempt([...prefix, nfsbench, ...address, '-o', 'null', '-t', '0.05'])).status === 0
    })
  } catch (error) {
    await endNamespaces(child)
    throw error
  }
  return { name: 'ganesha', reach: { protocol: 'nfs', prefix, address }, stop: () => endNamespaces(child) }
}

export async function startGluster(folder: string): Promise<Side> {
  const log = join(folder, 'gluster.out')
  mkdirSync(folder, { recursive: true })
  const { child, init } = await inNamespaces(join(here, 'peers/gluster.sh'), join(folder, 'gluster'), log)
  try {
    await until('GlusterFS is mounted', 90_000, () => {
      if (ended(child)) throw new Error(`it ended: ${readFileSync(log, 'utf8').slice(-500)}`)
      return readFileSync(log, 'utf8').includes('mounted')
    })
  } catch (error) {
    await endNamespaces(child)
    throw error
  }
  return {
    name: 'gluster',
    reach: {
      protocol: 'posix',
      prefix: ['nsenter', '-t', String(init), '-m', '--'],
      folder: join(folder, 'gluster/mount'),
    },
    stop: () => endNamespaces(child),
  }
}

const manifests = onePair({ devices: { count: 2, size: '4Gi' }, log: '1Gi', cache: '1Gi', volume: '4Gi' })

/** New logs are filled beside the load (edge/filer/log-fill.ts): what a pair does in its first minute is not measured. */
async function logsFilled(pair: Embedded): Promise<void> {
  const logs = ['a', 'b'].flatMap((filer) => pair.claims(filer).filter((claim) => claim.endsWith('-log')))
  const files = logs.flatMap((claim) => [join(claim, 'log-a'), join(claim, 'log-b')])
  await until('the logs have no holes', 300_000, () =>
    files.every((file) => {
      const { size, blocks } = statSync(file)
      return blocks * 512 >= size
    }),
  )
}

/** Both filers of the pair run here; interconnects are direct. Redundant before the first measurement: both logs take part. */
export async function startTandem(
  kind = 'bench-pair',
  build: { main?: string } = {},
): Promise<Side & { readonly pair: Embedded }> {
  const pair = await Embedded.start(kind, manifests, build)
  try {
    await pair.redundant()
    await logsFilled(pair)
    const mount = await pair.mountPoint()
    const address = ['-h', mount.host, '-p', String(mount.port), '-m', String(mount.port), '-e', mount.path]
    return {
      name: 'tandem',
      pair,
      reach: { protocol: 'nfs', prefix: [], address },
      stop: async (keepLogs) => {
        await pair.stop(keepLogs)
        return keepLogs ? pair.folder : undefined
      },
    }
  } catch (error) {
    await pair.stop(true)
    throw error
  }
}

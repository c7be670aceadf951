/** The Linux kernel as NFS client beside a cluster: starts e2e/nfs/workload.sh in a guest kernel and reads what it leaves. */
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { once } from 'node:events'
import type { Cluster } from '../cluster/cluster.ts'
import { end, ended, keep, run, until } from './process.ts'

export interface MountLine {
  server: string
  path: string
  options: string
}

const nfs = join(import.meta.dirname, '../nfs')
export const programs = ['git', 'sqlite-wal', 'sqlite-delete', 'fio'] as const

export class KernelClient {
  readonly #folder: string
  readonly #child: ChildProcess

  private constructor(folder: string, child: ChildProcess) {
    this.#folder = folder
    this.#child = child
  }

  /** Boots the kernel, mounts exactly as `mount` says, and starts the programs; returns when each has done a round. */
  static async start(
    cluster: Cluster,
    folder: string,
    mount: MountLine,
    repository: string,
  ): Promise<KernelClient> {
    mkdirSync(folder, { recursive: true })
    // The guest has a /tmp of its own: of this machine it sees for certain only what is in the shared folder.
    const copy = join(folder, 'repository.git')
    await run(['git', 'clone', '-q', '--bare', repository, copy])
    // A part of it, so that a round takes seconds: steps wait for one. `make kernel` clones all of it.
    const author = ['-c', 'user.name=tandem', '-c', 'user.email=tandem@localhost']
    const commit = await run(['git', '-C', copy, ...author, 'commit-tree', '-m', 'A part', 'HEAD:src/nfs'])
    await run(['git', '-C', copy, 'update-ref', 'HEAD', commit.trim()])
    await run(['gcc', '-O2', '-static', '-o', join(folder, 'pauses-program'), join(nfs, 'pauses.c')])
    const child = keep(
      [
        join(nfs, 'kernel-client.sh'),
        String(cluster.init),
        folder,
        join(nfs, 'workload.sh'),
        mount.server,
        mount.path,
        mount.options,
        copy,
      ],
      join(folder, 'console.log'),
    )
    const client = new KernelClient(folder, child)
    try {
      await until(
        'the kernel client has mounted the volume',
        60_000,
        () => client.#alive() && existsSync(join(folder, 'mounted')),
      )
      await client.progress(1)
      return client
    } catch (error) {
      await end(child)
      throw error
    }
  }

  #read(name: string): string {
    const path = join(this.#folder, name)
    return existsSync(path) ? readFileSync(path, 'utf8') : ''
  }

  #alive(): boolean {
    const failures = this.#read('failures')
    if (failures !== '') throw new Error(`a program failed: ${failures.trim()}`)
    if (ended(this.#child))
      throw new Error(`the guest kernel ended: ${this.#read('console.log').slice(-1000)}`)
    return true
  }

  /** Mounts a volume as well, runs a script in it, and gives what that wrote. */
  async visit(mount: MountLine, script: string): Promise<string> {
    const asked = join(this.#folder, 'visit')
    const answer = `${asked}-done`
    rmSync(answer, { force: true })
    writeFileSync(`${asked}.new`, `${mount.server} ${mount.path} ${mount.options}\n${script}\n`)
    renameSync(`${asked}.new`, asked)
    await until(`the answer to: ${script}`, 60_000, () => this.#alive() && existsSync(answer), 50)
    const [status, ...lines] = this.#read('visit-done').trimEnd().split('\n')
    if (status !== '0') throw new Error(`${script}\nin ${mount.path}: ${lines.join('\n')}`)
    return lines.join('\n')
  }

  rounds(): Record<string, number> {
    return Object.fromEntries(programs.map((program) => [program, Number(this.#read(`rounds-${program}`))]))
  }

  /** Waits until every program has done so many rounds more; fails as soon as one has seen an error. */
  async progress(more: number, timeoutMs = 120_000): Promise<void> {
    const before = this.rounds()
    await until(`each program goes on (${JSON.stringify(before)})`, timeoutMs, () => {
      this.#alive()
      const after = this.rounds()
      return programs.every((program) => after[program]! >= before[program]! + more)
    })
  }

  #hand(name: string, mount: MountLine): string {
    const handed = join(this.#folder, name)
    writeFileSync(`${handed}.new`, `${mount.server} ${mount.path} ${mount.options}\n`)
    renameSync(`${handed}.new`, handed)
    return handed
  }

  /** Has the line of a PersistentVolume mounted as well, written to and read. */
  async claim(mount: MountLine): Promise<void> {
    const handed = this.#hand('claim', mount)
    await until(
      'the line of the PersistentVolume is mounted and written to',
      60_000,
      () => this.#alive() && existsSync(`${handed}-done`),
    )
  }

  /** Has a second volume mounted, with files that stay open and are worked with until `archiveDone`. */
  async archive(mount: MountLine): Promise<void> {
    this.#hand('archive', mount)
    await this.archiveProgress(1)
  }

  async archiveProgress(more: number): Promise<void> {
    const rounds = (): number => Number(this.#read('rounds-archive'))
    const before = rounds()
    await until('work on the archive goes on', 120_000, () => this.#alive() && rounds() >= before + more)
  }

  /** Ends that work, and has everything compared, the second time after a fresh mount. */
  async archiveDone(): Promise<number> {
    writeFileSync(join(this.#folder, 'archive-stop'), '')
    await until(
      'the archive is compared',
      120_000,
      () => this.#alive() && existsSync(join(this.#folder, 'archive-done')),
    )
    return Number(this.#read('rounds-archive'))
  }

  /** Longest pause of a single write that was waiting within this time. */
  longestPauseMs(fromEpochMs: number, toEpochMs = Date.now(), log = 'pauses'): number {
    let longest = 0
    for (const line of this.#read(log).split('\n')) {
      const [began, took] = line.split(' ').map(Number)
      if (began === undefined || took === undefined || Number.isNaN(began)) continue
      if (began <= toEpochMs && began + took >= fromEpochMs) longest = Math.max(longest, took)
    }
    return longest
  }

  /** Ends the programs, has everything checked once more after a fresh mount, and gives the rounds that were done. */
  async finish(): Promise<Record<string, number>> {
    this.#alive()
    writeFileSync(join(this.#folder, 'stop'), '')
    const late = setTimeout(() => this.#child.kill('SIGTERM'), 180_000)
    if (!ended(this.#child)) await once(this.#child, 'exit')
    clearTimeout(late)
    const failures = this.#read('failures')
    if (failures !== '' || this.#read('status').trim() !== '0')
      throw new Error(
        `programs in the guest failed: ${failures.trim() || this.#read('console.log').slice(-1000)}`,
      )
    return this.rounds()
  }

  async stop(): Promise<void> {
    await end(this.#child)
  }
}

/**
 * The exclusive lock on a log volume: keeps two processes of one filer apart (a force-deleted pod whose process still runs,
 * and its successor on the same node), and vanishes with kill -9.
 *
 * The holder listens on a Unix socket that is a file of the volume. The socket's inode is what counts, so it works across
 * containers that mount the same volume, whatever their network namespace; the kernel closes it with the process, and a stopped process
 * (SIGSTOP) still holds it, since its backlog accepts. It does not reach to another node: what keeps two nodes apart is the volume's access mode and
 * the incarnation stamped in the labels.
 */
import { randomUUID } from 'node:crypto'
import { closeSync, linkSync, openSync, renameSync, rmSync } from 'node:fs'
import type { Server } from 'node:net'
import { connect, createServer } from 'node:net'

const NAME = 'lock'

/** A path of any length: a socket address holds 107 bytes, so the folder is named by a descriptor. */
function shortPath(folderFd: number, name: string): string {
  return process.platform === 'linux' ? `/proc/self/fd/${folderFd}/${name}` : name
}

/** True if somebody listens at `path`. */
function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.destroy()
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false)
      else if (error.code === 'EAGAIN') resolve(true)
      else reject(error)
    })
  })
}

function errno(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}

export class VolumeLock {
  readonly #server: Server
  readonly #folder: string
  readonly #folderFd: number

  private constructor(server: Server, folder: string, folderFd: number) {
    this.#server = server
    this.#folder = folder
    this.#folderFd = folderFd
  }

  /** The lock, or undefined while another process holds it. */
  static async tryTake(folder: string): Promise<VolumeLock | undefined> {
    const folderFd = openSync(folder, 'r')
    const own = `${NAME}.${randomUUID()}`
    const server = createServer((socket) => socket.destroy())
    const give = (): undefined => {
      server.close()
      rmSync(`${folder}/${own}`, { force: true })
      closeSync(folderFd)
    }
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(shortPath(folderFd, own), resolve)
    })
    server.unref()
    for (let attempt = 0; attempt < 10; attempt++) {
      try {
        linkSync(`${folder}/${own}`, `${folder}/${NAME}`)
        rmSync(`${folder}/${own}`)
        return new VolumeLock(server, folder, folderFd)
      } catch (error) {
        if (errno(error) !== 'EEXIST') throw error
      }
      if (await isAlive(shortPath(folderFd, NAME))) return give()
      // Nobody listens: move it aside and look again, because another starter may have replaced it in between.
      const aside = `${NAME}.stale.${randomUUID()}`
      try {
        renameSync(`${folder}/${NAME}`, `${folder}/${aside}`)
      } catch (error) {
        if (errno(error) !== 'ENOENT') throw error
        continue
      }
      const alive = await isAlive(shortPath(folderFd, aside))
      if (alive) {
        try {
          linkSync(`${folder}/${aside}`, `${folder}/${NAME}`)
        } catch (error) {
          if (errno(error) !== 'EEXIST') throw error
        }
      }
      rmSync(`${folder}/${aside}`, { force: true })
      if (alive) return give()
    }
    return give()
  }

  release(): void {
    this.#server.close()
    rmSync(`${this.#folder}/${NAME}`, { force: true })
    closeSync(this.#folderFd)
  }
}

/**
 * Folders for the state of a run: made fresh under the system's temporary folder, with the owner's process number in them,
 * so that a later run can tell what a killed one left behind and remove it. A process number may be given to another
 * process; the owner's start time, which the kernel keeps, tells them apart.
 */
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Field 22 of /proc/PID/stat: clock ticks from boot to the process's start. Undefined when there is no such process. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

/** Removes the folders of this kind whose owner is gone; `clear` undoes what removing a folder alone does not. */
export async function sweep(
  kind: string,
  clear: (folder: string) => Promise<void> = async () => {},
): Promise<void> {
  for (const entry of readdirSync(tmpdir())) {
    if (!entry.startsWith(`tandem-${kind}.`)) continue
    const folder = join(tmpdir(), entry)
    let owner: string[]
    try {
      owner = readFileSync(join(folder, 'owner'), 'utf8').split(' ')
    } catch {
      continue
    }
    if (startTime(Number(owner[0])) === owner[1]) continue
    await clear(folder)
    rmSync(folder, { recursive: true, force: true })
  }
}

export function stateFolder(kind: string): string {
  const folder = mkdtempSync(join(tmpdir(), `tandem-${kind}.`))
  writeFileSync(join(folder, 'owner'), `${process.pid} ${startTime(process.pid)}`)
  return folder
}

/** At the end of a run: removes the folder, or leaves it for a person to look at, and then for good. */
export function endFolder(folder: string, keep: boolean): void {
  rmSync(keep ? join(folder, 'owner') : folder, { recursive: true, force: true })
}

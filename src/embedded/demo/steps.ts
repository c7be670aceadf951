/** What the acts of the demonstration do and say. */
import type { KubeObject } from '../../edge/kube/api.ts'
import type { Load, Verdict } from '../../nfs/load/load.ts'

interface Mount {
  readonly server: string
  readonly path: string
  readonly options: string
}

export function mountOf(volume: KubeObject): Mount & { readonly port: number } {
  const mount = (volume['status'] as { mount?: Mount }).mount
  if (mount === undefined) throw new Error('the volume has no status.mount')
  return { ...mount, port: Number(/(?:^|,)port=(\d+)/.exec(mount.options)?.[1] ?? 2049) }
}

/** Reads everything back while nothing is under way; throws when it is not what was acknowledged. The load stays paused. */
export async function readBack(load: Load): Promise<Verdict> {
  await load.pause()
  const verdict = await load.verify()
  if (verdict.differences.length > 0)
    throw new Error(
      `what was read back is not what was acknowledged (${String(verdict.differences.length)} differences): ${verdict.differences.slice(0, 5).join('; ')}`,
    )
  return verdict
}

/** Until so many more calls are answered; throws what a call that must succeed was told, or that nothing came. */
export async function progress(load: Load, calls: number, withinMs: number): Promise<void> {
  const from = load.operations
  const deadline = performance.now() + withinMs
  while (load.operations < from + calls) {
    load.assertWell()
    if (performance.now() > deadline)
      throw new Error(`the client has had no answer for ${String(withinMs / 1000)} s`)
    await pass(10)
  }
}

export function describe({ files, bytes, digest }: Verdict): string {
  return `${String(files)} files, ${megabytes(bytes)}, sha256 ${digest.slice(0, 12)}`
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`
}

export function pass(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs))
}

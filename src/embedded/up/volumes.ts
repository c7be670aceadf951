/**
 * What a pod mounts, on this machine: a PersistentVolumeClaim is a folder (or, for volumeMode Block, a sparse file) under volumes/,
 * a Secret becomes files. In the pod's root the mount paths are links to claims, and folders with files for secrets. A secret that
 * changes is rewritten in place, file by file, each by rename.
 */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type { KubeObject } from '../../edge/kube/api.ts'
import { podSpec } from './pod-spec.ts'
import type { StateDir } from './state-dir.ts'

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
}

export function quantityBytes(quantity: string): number {
  const match = /^(\d+(?:\.\d+)?)([kMGT]|[KMGT]i)?$/.exec(quantity)
  if (match === null) throw new Error(`${JSON.stringify(quantity)} is not a size`)
  return Math.round(Number(match[1]) * UNITS[match[2] ?? '']!)
}

function claimPath(dir: StateDir, namespace: string, name: string): string {
  return join(dir.volumes, namespace, name)
}

interface ClaimSpec {
  readonly volumeMode?: string
  readonly resources?: { readonly requests?: { readonly storage?: string } }
}

/** Makes what the claim asks for, unless it is there: a file that somebody deleted comes back empty. */
export function provideClaim(dir: StateDir, claim: KubeObject): void {
  const path = claimPath(dir, claim.metadata.namespace ?? '', claim.metadata.name)
  const spec = (claim['spec'] ?? {}) as ClaimSpec
  if (spec.volumeMode !== 'Block') {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    return
  }
  const bytes = quantityBytes(spec.resources?.requests?.storage ?? '0')
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  if (!existsSync(path)) writeFileSync(path, '', { mode: 0o600 })
  if (lstatSync(path).size < bytes) truncateSync(path, bytes)
}

export function removeClaim(dir: StateDir, namespace: string, name: string): void {
  rmSync(claimPath(dir, namespace, name), { recursive: true, force: true })
}

export function podRoot(dir: StateDir, pod: KubeObject): string {
  return join(dir.pods, pod.metadata.namespace ?? '', pod.metadata.name)
}

/** Everything the pod mounts, under its root. */
export function mountVolumes(dir: StateDir, pod: KubeObject, secret: (name: string) => KubeObject): string {
  const root = podRoot(dir, pod)
  mkdirSync(root, { recursive: true, mode: 0o700 })
  const namespace = pod.metadata.namespace ?? ''
  const volumes = new Map((podSpec(pod).volumes ?? []).map((volume) => [volume.name, volume]))
  for (const container of podSpec(pod).containers) {
    const mounts = [
      ...(container.volumeMounts ?? []).map((mount) => ({ name: mount.name, path: mount.mountPath })),
      ...(container.volumeDevices ?? []).map((device) => ({ name: device.name, path: device.devicePath })),
    ]
    // Outer mounts first: /var/lib/tandem before /var/lib/tandem/log.
    for (const { name, path } of mounts.sort((a, b) => a.path.length - b.path.length)) {
      const volume = volumes.get(name)
      const at = join(root, path)
      if (volume?.persistentVolumeClaim !== undefined)
        link(claimPath(dir, namespace, volume.persistentVolumeClaim.claimName), at)
      else if (volume?.secret !== undefined)
        writeSecret(at, secret(volume.secret.secretName), volume.secret.items)
      else mkdirSync(at, { recursive: true })
    }
  }
  return root
}

export function refreshSecrets(
  dir: StateDir,
  pod: KubeObject,
  secret: (name: string) => KubeObject | undefined,
): void {
  const root = podRoot(dir, pod)
  for (const volume of podSpec(pod).volumes ?? []) {
    const object = volume.secret === undefined ? undefined : secret(volume.secret.secretName)
    if (volume.secret === undefined || object === undefined) continue
    for (const container of podSpec(pod).containers)
      for (const mount of container.volumeMounts ?? [])
        if (mount.name === volume.name) writeSecret(join(root, mount.mountPath), object, volume.secret.items)
  }
}

function link(target: string, at: string): void {
  mkdirSync(dirname(at), { recursive: true })
  try {
    if (readlinkSync(at) === target) return
  } catch {
    // Not there, or something else.
  }
  rmSync(at, { recursive: true, force: true })
  symlinkSync(target, at)
}

function writeSecret(
  folder: string,
  secret: KubeObject,
  items: readonly { key: string; path: string }[] | undefined,
): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const data = (secret['data'] ?? {}) as Record<string, string>
  const files = new Map(
    (items ?? Object.keys(data).map((key) => ({ key, path: key }))).flatMap(({ key, path }) =>
      data[key] === undefined ? [] : [[path, Buffer.from(data[key], 'base64')] as const],
    ),
  )
  for (const name of readdirSync(folder)) if (!files.has(name)) rmSync(join(folder, name), { force: true })
  for (const [name, content] of files) {
    const path = join(folder, name)
    if (existsSync(path) && readFileSync(path).equals(content)) continue
    writeFileSync(`${path}.new`, content, { mode: 0o600 })
    renameSync(`${path}.new`, path)
  }
}

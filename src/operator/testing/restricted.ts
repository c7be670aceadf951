/** Pod Security profile `restricted`, as far as a pod without further features can break it: what is wrong, or nothing. */
interface Pod {
  hostNetwork?: boolean
  hostPID?: boolean
  hostIPC?: boolean
  securityContext?: Record<string, unknown>
  volumes?: Record<string, unknown>[]
  containers: { name: string; ports?: { hostPort?: number }[]; securityContext?: Record<string, unknown> }[]
  initContainers?: Pod['containers']
}

const VOLUMES = [
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'persistentVolumeClaim',
  'projected',
  'secret',
]
const SECCOMP = ['RuntimeDefault', 'Localhost']

export function restrictedViolations(pod: Pod): string[] {
  const wrong: string[] = []
  if (pod.hostNetwork || pod.hostPID || pod.hostIPC) wrong.push('host namespaces')
  for (const volume of pod.volumes ?? [])
    for (const type of Object.keys(volume))
      if (type !== 'name' && !VOLUMES.includes(type)) wrong.push(`volume type ${type}`)
  for (const container of [...pod.containers, ...(pod.initContainers ?? [])]) {
    const context = { ...pod.securityContext, ...container.securityContext }
    const capabilities = context['capabilities'] as { drop?: string[]; add?: string[] } | undefined
    const say = (what: string): void => void wrong.push(`${container.name}: ${what}`)
    if (context['runAsNonRoot'] !== true) say('runAsNonRoot')
    if (context['runAsUser'] === 0) say('runAsUser')
    if (context['privileged'] === true) say('privileged')
    if (context['allowPrivilegeEscalation'] !== false) say('allowPrivilegeEscalation')
    if (!capabilities?.drop?.includes('ALL')) say('capabilities.drop')
    if (capabilities?.add?.some((c) => c !== 'NET_BIND_SERVICE')) say('capabilities.add')
    if (!SECCOMP.includes((context['seccompProfile'] as { type?: string } | undefined)?.type ?? ''))
      say('seccompProfile')
    if (container.ports?.some((p) => p.hostPort !== undefined)) say('hostPort')
    // Not of the profile, but a promise of ours.
    if (context['readOnlyRootFilesystem'] !== true) say('readOnlyRootFilesystem')
  }
  return wrong
}

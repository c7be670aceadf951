/**
 * Where a filer's interconnects are: its own addresses by interface name (or from TANDEM_ADDRESSES in embedded mode), written on its own
 * pod for the partner, and the partner's, read from its pod. Both are also kept on the log volume (by the caller), so that a restarted
 * filer finds its partner without the API.
 */
import { networkInterfaces } from 'node:os'
import type { KubeApi, Resource } from '../kube/api.ts'
import { KubeError } from '../kube/api.ts'

export const PODS: Resource = { group: '', version: 'v1', plural: 'pods', kind: 'Pod', namespaced: true }
export const INTERCONNECTS_ANNOTATION = 'tandem.storage/interconnects'
export const INTERCONNECT_PORT = 7400

/** host:port by interconnect. */
export type AddressMap = Record<string, string>

export interface OwnAddress {
  readonly name: string
  /** What the driver binds to and dials from. */
  readonly listen: string
  /** What the partner dials. */
  readonly advertise: string
}

/** Throws an Error that names the interface when one is not there. */
export function ownAddresses(names: readonly string[], environment: NodeJS.ProcessEnv): OwnAddress[] {
  const given = environment['TANDEM_ADDRESSES']
  if (given !== undefined) {
    const map = JSON.parse(given) as Record<string, { listen: string; advertise: string }>
    return names.map((name) => {
      const address = map[name]
      if (!address) throw new Error(`TANDEM_ADDRESSES has no interconnect ${name}`)
      return { name, ...address }
    })
  }
  const interfaces = networkInterfaces()
  const podIp = environment['POD_IP']
  return names.map((name) => {
    const host =
      name === 'default' ? (podIp ?? '0.0.0.0') : interfaces[name]?.find((entry) => !entry.internal)?.address
    if (host === undefined) {
      throw new Error(
        `interconnect ${name}: this pod has no network interface of that name (it has ${Object.keys(interfaces).join(', ')})`,
      )
    }
    const at = `${host.includes(':') ? `[${host}]` : host}:${INTERCONNECT_PORT}`
    return { name, listen: at, advertise: at }
  })
}

export async function publishAddresses(
  api: KubeApi,
  namespace: string,
  pod: string,
  own: readonly OwnAddress[],
): Promise<void> {
  const map = Object.fromEntries(own.map(({ name, advertise }) => [name, advertise]))
  await api.mergePatch(PODS, namespace, pod, {
    metadata: { annotations: { [INTERCONNECTS_ANNOTATION]: JSON.stringify(map) } },
  })
}

/** The partner's addresses; undefined while it has no pod or has not written them. */
export async function readAddresses(
  api: KubeApi,
  namespace: string,
  pod: string,
): Promise<AddressMap | undefined> {
  try {
    const { metadata } = await api.get(PODS, namespace, pod)
    const text = metadata.annotations?.[INTERCONNECTS_ANNOTATION]
    return text === undefined ? undefined : (JSON.parse(text) as AddressMap)
  } catch (error) {
    if (error instanceof KubeError && error.code === 404) return undefined
    throw error
  }
}

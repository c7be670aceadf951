/**
 * A chained CNI plugin that stands in for Multus in the test cluster: after the first plugin made eth0 it gives a pod the
 * further interfaces that its annotation `k8s.v1.cni.cncf.io/networks` asks for, by the NetworkAttachmentDefinitions named
 * there, and writes `k8s.v1.cni.cncf.io/network-status`. The first plugin's result is passed on unchanged, so eth0 stays the
 * pod's address. `@NODE@` in an attachment's configuration becomes the node's number (for ranges of addresses by node).
 *
 * What was added is noted in /var/lib/cni/multinet/<container>, so that DEL works when the pod's object is gone.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { apiCaller } from '../kubeconfig.ts'

interface Ip {
  address: string
}
interface Result {
  cniVersion?: string
  ips?: Ip[]
}
interface PluginConfig {
  cniVersion: string
  name: string
  type: string
  kubeconfig: string
  node: string
  prevResult?: Result
}
interface Network {
  name: string
  namespace?: string
  interface?: string
  ips?: string[]
}
interface Attached {
  interface: string
  attachment: string
  config: Record<string, unknown> & { type: string; name?: string }
}
interface Pod {
  metadata: { annotations?: Record<string, string> }
}

const env = process.env
const command = env['CNI_COMMAND']
const stateFolder = '/var/lib/cni/multinet'
const stateFile = `${stateFolder}/${env['CNI_CONTAINERID']}`

/** `[{"name": …}]`, or the short form `namespace/name@interface, …`. */
function parseNetworks(annotation: string): Network[] {
  if (annotation.trim().startsWith('[')) return JSON.parse(annotation) as Network[]
  return annotation.split(',').map((item) => {
    const match = /^(?:([^/]+)\/)?([^@]+)(?:@(.+))?$/.exec(item.trim())
    if (match === null) throw new Error(`networks annotation: cannot read '${item}'`)
    return {
      name: match[2]!,
      ...(match[1] === undefined ? {} : { namespace: match[1] }),
      ...(match[3] === undefined ? {} : { interface: match[3] }),
    }
  })
}

/** Runs another plugin on this container's network namespace. */
function delegate(config: PluginConfig, network: Attached): Result {
  const input = {
    cniVersion: config.cniVersion,
    ...network.config,
    name: network.config.name ?? network.attachment.replace('/', '.'),
  }
  const program = (env['CNI_PATH'] ?? '')
    .split(':')
    .map((folder) => `${folder}/${network.config.type}`)
    .find((path) => existsSync(path))
  if (program === undefined) throw new Error(`no plugin '${network.config.type}' in CNI_PATH`)
  const run = spawnSync(program, {
    input: JSON.stringify(input),
    env: { ...env, CNI_IFNAME: network.interface },
    encoding: 'utf8',
  })
  if (run.status !== 0 && command === 'ADD')
    throw new Error(`${network.attachment} as ${network.interface}: ${run.stdout || run.stderr}`)
  return run.stdout === '' ? {} : (JSON.parse(run.stdout) as Result)
}

async function add(config: PluginConfig): Promise<void> {
  const args = new Map((env['CNI_ARGS'] ?? '').split(';').map((pair) => pair.split('=') as [string, string]))
  const namespace = args.get('K8S_POD_NAMESPACE')
  const podPath = `/api/v1/namespaces/${namespace}/pods/${args.get('K8S_POD_NAME')}`
  const api = apiCaller(config.kubeconfig)
  const pod = await api<Pod>('GET', podPath)
  const annotation = pod.metadata.annotations?.['k8s.v1.cni.cncf.io/networks']
  if (annotation !== undefined && annotation !== '') {
    const networks: Attached[] = []
    for (const [index, wanted] of parseNetworks(annotation).entries()) {
      const attachment = `${wanted.namespace ?? namespace}/${wanted.name}`
      const [attachmentNamespace, attachmentName] = attachment.split('/')
      const definition = await api<{ spec: { config: string } }>(
        'GET',
        `/apis/k8s.cni.cncf.io/v1/namespaces/${attachmentNamespace}/network-attachment-definitions/${attachmentName}`,
      )
      const delegated = JSON.parse(
        definition.spec.config.replaceAll('@NODE@', config.node),
      ) as Attached['config']
      if (wanted.ips !== undefined)
        delegated['ipam'] = { type: 'static', addresses: wanted.ips.map((address) => ({ address })) }
      networks.push({ interface: wanted.interface ?? `net${index + 1}`, attachment, config: delegated })
    }
    mkdirSync(stateFolder, { recursive: true })
    writeFileSync(stateFile, JSON.stringify(networks))
    const addresses = (result: Result | undefined): string[] =>
      (result?.ips ?? []).map((ip) => ip.address.split('/')[0]!)
    const status: object[] = [
      { name: config.name, interface: env['CNI_IFNAME'], ips: addresses(config.prevResult), default: true },
    ]
    for (const network of networks) {
      const result = delegate(config, network)
      status.push({ name: network.attachment, interface: network.interface, ips: addresses(result) })
    }
    await api('PATCH', podPath, {
      metadata: { annotations: { 'k8s.v1.cni.cncf.io/network-status': JSON.stringify(status) } },
    })
  }
  process.stdout.write(JSON.stringify(config.prevResult ?? { cniVersion: config.cniVersion }))
}

function remove(config: PluginConfig): void {
  if (!existsSync(stateFile)) return
  for (const network of JSON.parse(readFileSync(stateFile, 'utf8')) as Attached[]) delegate(config, network)
  rmSync(stateFile, { force: true })
}

if (command === 'VERSION') {
  process.stdout.write('{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}')
} else {
  const config = JSON.parse(readFileSync(0, 'utf8')) as PluginConfig
  try {
    if (command === 'ADD') await add(config)
    else if (command === 'DEL') remove(config)
  } catch (error) {
    process.stdout.write(JSON.stringify({ cniVersion: config.cniVersion, code: 100, msg: String(error) }))
    process.exitCode = 1
  }
}

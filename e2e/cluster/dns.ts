/**
 * dns.ts KUBECONFIG ADDRESS: the test cluster's DNS server (CoreDNS is no Debian package).
 *
 * Answers A queries for Services (`<service>.<namespace>.svc.cluster.local`: the ClusterIP, or the endpoints of a headless
 * one) and for pods with a host name in a headless Service. Reads the objects twice a second. Nothing else is answered:
 * no reverse names, no SRV, no outside names.
 */
import { createSocket } from 'node:dgram'
import { apiCaller } from './kubeconfig.ts'

interface Meta {
  name: string
  namespace: string
}
interface Service {
  metadata: Meta
  spec: { clusterIP?: string; publishNotReadyAddresses?: boolean }
}
interface EndpointAddress {
  ip: string
  hostname?: string
}
interface Endpoints {
  metadata: Meta
  subsets?: { addresses?: EndpointAddress[]; notReadyAddresses?: EndpointAddress[] }[]
}

const [kubeconfig, address] = process.argv.slice(2)
if (kubeconfig === undefined || address === undefined) throw new Error('usage: dns.ts KUBECONFIG ADDRESS')
const api = apiCaller(kubeconfig)
let table = new Map<string, string[]>()

const nameOf = (meta: Meta): string => `${meta.name}.${meta.namespace}.svc.cluster.local`

async function read(): Promise<Map<string, string[]>> {
  const [services, endpoints] = await Promise.all([
    api<{ items: Service[] }>('GET', '/api/v1/services'),
    api<{ items: Endpoints[] }>('GET', '/api/v1/endpoints'),
  ])
  const result = new Map<string, string[]>()
  const add = (name: string, ip: string): unknown => result.set(name, [...(result.get(name) ?? []), ip])
  const byName = new Map(services.items.map((service) => [nameOf(service.metadata), service]))
  for (const [name, service] of byName) {
    result.set(name, [])
    const ip = service.spec.clusterIP
    if (ip !== undefined && ip !== '' && ip !== 'None') add(name, ip)
  }
  for (const item of endpoints.items) {
    const name = nameOf(item.metadata)
    const service = byName.get(name)
    for (const subset of item.subsets ?? []) {
      const notReady = service?.spec.publishNotReadyAddresses === true ? (subset.notReadyAddresses ?? []) : []
      for (const entry of [...(subset.addresses ?? []), ...notReady]) {
        if (service?.spec.clusterIP === 'None') add(name, entry.ip)
        if (entry.hostname !== undefined) add(`${entry.hostname}.${name}`, entry.ip)
      }
    }
  }
  return result
}

async function poll(): Promise<void> {
  try {
    table = await read()
  } catch (error) {
    console.error(String(error))
  }
  setTimeout(() => void poll(), 500)
}

/** RFC 1035: the query's header and question come back, followed by one A record of 1 s for each address. */
function answer(query: Buffer): Buffer {
  const labels: string[] = []
  let offset = 12
  while (offset < query.length && query[offset] !== 0) {
    labels.push(query.toString('latin1', offset + 1, offset + 1 + query[offset]!))
    offset += query[offset]! + 1
  }
  const end = offset + 5
  const isAddressQuery = query.readUInt16BE(offset + 1) === 1
  const addresses = table.get(labels.join('.').toLowerCase())
  const found = isAddressQuery ? (addresses ?? []) : []
  const header = Buffer.from(query.subarray(0, 12))
  header.writeUInt16BE(0x8580 | (addresses === undefined ? 3 : 0), 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(found.length, 6)
  header.writeUInt32BE(0, 8)
  const records = found.map((ip) =>
    Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...ip.split('.').map(Number)]),
  )
  return Buffer.concat([header, query.subarray(12, end), ...records])
}

const socket = createSocket('udp4')
socket.on('message', (query, peer) => {
  try {
    socket.send(answer(query), peer.port, peer.address)
  } catch (error) {
    console.error(`unreadable query from ${peer.address}: ${String(error)}`)
  }
})
socket.bind(53, address)
void poll()

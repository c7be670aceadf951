/**
 * What the interconnect alone carries: region writes from this process to a second one, mutual TLS and all, over one and two
 * drivers on loopback. `node bench/interconnect.ts [--seconds N]`. The far end copies into memory and flushes nothing.
 */
import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'
import { crc32 } from 'node:zlib'
import type { Channel, ChannelClient, Region } from '../src/core/connection/client.ts'
import { ConnectionManager } from '../src/core/connection/manager.ts'
import type { Env } from '../src/core/env/env.ts'
import { GrpcDriver } from '../src/edge/grpc/driver.ts'
import { GrpcListener } from '../src/edge/grpc/listener.ts'
import type { TlsMaterial } from '../src/edge/grpc/tls.ts'
import { filerUri, issue, newAuthority } from '../src/edge/pki.ts'
import { cpuMicrosecondsOf } from './rig.ts'

interface Setup {
  readonly tls: TlsMaterial
  readonly drivers: number
}

const PORT = 17400
const REGION_BYTES = 64 << 20
const FENCE = { epoch: 1, incarnation: 1 }

const env: Env = {
  clock: {
    now: () => performance.now(),
    wall: () => ({ seconds: Math.floor(Date.now() / 1000), nanoseconds: 0 }),
    after: (delayMs, task) => {
      const timer = setTimeout(task, delayMs)
      return { cancel: () => clearTimeout(timer) }
    },
  },
  random: { u32: () => Math.floor(Math.random() * 0x100000000) },
  crc32: (data, seed) => crc32(data, seed),
  log: (level, event, fields) => {
    if (level !== 'info') console.error(event, fields)
  },
  metrics: { add: () => undefined, set: () => undefined, observe: () => undefined },
}

function filer(
  name: string,
  partner: string,
  host: number,
  { tls, drivers }: Setup,
  onUp: (channel: Channel) => void,
) {
  const memory = new Uint8Array(REGION_BYTES)
  const region: Region = {
    key: 1,
    bytes: REGION_BYTES,
    place: (offset, chunks) => {
      let at = offset
      for (const chunk of chunks) {
        memory.set(chunk, at)
        at += chunk.byteLength
      }
      return Promise.resolve()
    },
    read: (offset, bytes) => Promise.resolve(memory.subarray(offset, offset + bytes)),
    flush: () => Promise.resolve(),
  }
  const client: ChannelClient = {
    id: 'bench',
    version: 1,
    ports: 1,
    memoryBytes: 16 << 20,
    policy: 'striped',
    regions: [region],
    up: onUp,
    error: (_channel, cause) => console.error(`${name}: channel error: ${cause}`),
    down: (_channel, cause) => console.error(`${name}: channel down: ${cause}`),
    message: () => undefined,
  }
  const names = Array.from({ length: drivers }, (_, i) => `link${i}`)
  const manager = new ConnectionManager({
    env,
    systemId: name,
    partnerId: partner,
    incarnation: 1,
    logBytes: 0,
    // On a machine that is busy with other things as well, a late heartbeat is not what is measured.
    times: { failAfterMs: 5000 },
    drivers: names.map(
      (link, i) =>
        new GrpcDriver({
          name: link,
          listener: new GrpcListener({ listen: `127.7.${i}.${host}:${PORT}`, log: env.log }),
          tls: { current: () => tls },
          partnerUri: filerUri('bench', 'pair', partner),
        }),
    ),
    peerAddresses: Object.fromEntries(names.map((link, i) => [link, `127.7.${i}.${3 - host}:${PORT}`])),
  })
  manager.register(client)
  manager.start()
  return manager
}

async function measure(channel: Channel, farPid: number, bytes: number, depth: number, seconds: number) {
  const payload = new Uint8Array(bytes).fill(7)
  const end = performance.now() + seconds * 1000
  const latencies: number[] = []
  let offset = 0
  const worker = async () => {
    while (performance.now() < end) {
      const begun = performance.now()
      offset = offset + bytes > REGION_BYTES - bytes ? 0 : offset + bytes
      await channel.write(1, offset, [payload], FENCE)
      latencies.push(performance.now() - begun)
    }
  }
  const begun = performance.now()
  const cpu = process.cpuUsage()
  const farCpu = cpuMicrosecondsOf(farPid)
  await Promise.all(Array.from({ length: depth }, worker))
  const elapsed = (performance.now() - begun) / 1000
  const { user, system } = process.cpuUsage(cpu)
  latencies.sort((a, b) => a - b)
  const at = (share: number) =>
    ((latencies[Math.floor(latencies.length * share)] ?? 0) * 1000).toFixed(0).padStart(7)
  const rate = latencies.length / elapsed
  console.log(
    `${String(bytes / 1024).padStart(5)} KiB  ${String(depth).padStart(3)} in flight  ${rate.toFixed(0).padStart(7)} op/s  ` +
      `${((rate * bytes) / 1e6).toFixed(0).padStart(5)} MB/s  p50 ${at(0.5)} us  p99 ${at(0.99)} us  ` +
      `CPU us/op: sender ${((user + system) / latencies.length).toFixed(0).padStart(6)}, ` +
      `receiver ${((cpuMicrosecondsOf(farPid) - farCpu) / latencies.length).toFixed(0).padStart(6)}`,
  )
}

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '2' } } })

if (process.send !== undefined) {
  process.once('message', (setup: Setup) => filer('b', 'a', 2, setup, () => undefined))
  process.once('disconnect', () => process.exit())
} else {
  const authority = await newAuthority('bench', Date.now())
  const material = async (name: string): Promise<TlsMaterial> => {
    const { certificate, key } = await issue(authority, filerUri('bench', 'pair', name), Date.now())
    return { ca: authority.bundle, certificate, key }
  }
  for (const drivers of [1, 2]) {
    const far = spawn(process.execPath, [...process.execArgv, import.meta.filename], {
      stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    })
    far.send({ tls: await material('b'), drivers } satisfies Setup)
    const channels: Channel[] = []
    const own = { tls: await material('a'), drivers }
    const manager = filer('a', 'b', 1, own, (up) => channels.push(up))
    // Until the channel runs over all drivers.
    while (manager.links().some((link) => link.state !== 'Up') || channels.length < 1) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    await new Promise((resolve) => setTimeout(resolve, drivers > 1 ? 1500 : 100))
    console.log(`${drivers} driver${drivers > 1 ? 's' : ''}`)
    for (const [bytes, depth] of [
      [4096, 1],
      [4096, 16],
      [16384, 1],
      [65536, 1],
      [65536, 4],
      [262144, 2],
      [1 << 20, 1],
      [1 << 20, 4],
    ] as const) {
      await measure(channels.at(-1)!, far.pid!, bytes, depth, Number(values.seconds))
    }
    await manager.stop()
    far.kill()
  }
}

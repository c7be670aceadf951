/** Filers of two pairs over real TLS: who is let in, why not, and what a renewal does. */
import { afterEach, describe, expect, test } from '@jest/globals'
import type { PeerDesired } from '../../api/v1alpha1/filer-config.ts'
import { MirrorLink } from '../../core/filer/mirror-link.ts'
import type { ToDestination } from '../../core/mirror/messages.ts'
import { GrpcDriver } from '../grpc/driver.ts'
import { GrpcListener } from '../grpc/listener.ts'
import { addressOf, material, RealPair, until } from '../grpc/testing/real-filers.ts'
import type { TlsMaterial } from '../grpc/tls.ts'
import { filerUri, newAuthority } from '../pki.ts'
import type { Authority } from '../pki.ts'
import type { AddressStore } from './peers.ts'
import { PeerConnections } from './peers.ts'

const ends: End[] = []
afterEach(async () => {
  await Promise.all(ends.splice(0).map((end) => end.stop()))
})

/** Both are called a, each in its own pair. */
class End {
  readonly connections: PeerConnections
  readonly link: MirrorLink
  readonly heard: string[] = []
  readonly downs: string[] = []
  tls: TlsMaterial
  readonly #drivers: readonly GrpcDriver[]
  stored: ReturnType<AddressStore['read']>

  constructor(
    bed: RealPair,
    pair: string,
    tls: TlsMaterial,
    listen: ReadonlyMap<string, string>,
    stored?: ReturnType<AddressStore['read']>,
  ) {
    this.tls = tls
    this.stored = stored
    const env = bed.env()
    this.link = new MirrorLink(
      {},
      {
        message: (peer, { head }) => this.heard.push(`${peer} ${head.type}`),
        up: () => undefined,
        down: (peer) => this.downs.push(peer),
      },
    )
    const listeners = new Map(
      [...listen].map(([name, address]) => [
        name,
        new GrpcListener({ listen: address, log: env.log, certificateRefreshMs: 20 }),
      ]),
    )
    const own = { current: () => this.tls }
    // Its partner's, which is there in any case.
    this.#drivers = [...listeners].map(
      ([name, listener]) =>
        new GrpcDriver({ name, listener, tls: own, partnerUri: filerUri('ns', pair, 'b') }),
    )
    this.connections = new PeerConnections({
      env,
      config: { namespace: 'ns', pair, filer: 'a', log: { sizeBytes: 1 << 20, durability: 'Disk' } },
      incarnation: stored === undefined ? 1 : 2,
      listeners,
      tls: own,
      user: this.link,
      stored: { read: () => this.stored, write: (addresses) => (this.stored = structuredClone(addresses)) },
    })
    ends.push(this)
  }
  async start(): Promise<this> {
    for (const driver of this.#drivers)
      await driver.start(() => {
        throw new Error('the partner does not call')
      })
    return this
  }
  async stop(): Promise<void> {
    await this.connections.stop()
    await Promise.all(this.#drivers.map((driver) => driver.stop()))
  }
  get status() {
    return this.connections.status()[0]
  }
}

const AT = { east: new Map([['default', addressOf(0, 1)]]), west: new Map([['default', addressOf(0, 2)]]) }

let made: RealPair

async function bed(eastAt = AT.east, westAt = AT.west) {
  made = await RealPair.make([])
  const authorities = {
    east: await newAuthority('east', Date.now()),
    west: await newAuthority('west', Date.now()),
  }
  const own = (name: 'east' | 'west') => material(authorities[name], filerUri('ns', name, 'a'))
  const east = await new End(made, 'east', await own('east'), eastAt).start()
  const west = await new End(made, 'west', await own('west'), westAt).start()
  return { authorities, east, west }
}

function listed(
  pair: 'east' | 'west',
  { bundle }: Pick<Authority, 'bundle'>,
  addresses?: Record<string, string>,
): PeerDesired {
  const filers = [{ name: 'a', addresses: addresses ?? Object.fromEntries(AT[pair]) }]
  return { name: pair, namespace: 'ns', pair, ca: bundle, filers }
}
const order: ToDestination = { type: 'flush', mirror: 'm', session: 1 }

describe('filers of other pairs', () => {
  test('two pairs that list each other are connected, whatever their filers are called', async () => {
    const { east, west, authorities } = await bed()
    east.connections.set([listed('west', authorities.west)])
    west.connections.set([listed('east', authorities.east)])
    await until(() => east.status?.state === 'Up' && west.status?.state === 'Up')
    east.link.send('west/a', order)
    await until(() => west.heard.length > 0)
    expect(west.heard).toEqual(['east/a flush'])
    // Taken off the list at one end: both are told, and it can come back.
    west.connections.set([])
    await until(() => east.status?.reason === 'NotListed')
    expect([east.downs, west.downs]).toEqual([['west/a'], ['east/a']])
    west.connections.set([listed('east', authorities.east)])
    await until(() => east.status?.state === 'Up' && west.status?.state === 'Up')
  })

  test('one that does not list this pair refuses it, and so does one that knows another authority; each end says which', async () => {
    const { east, west, authorities } = await bed()
    const stranger = await newAuthority('stranger', Date.now())
    east.connections.set([listed('west', authorities.west)])
    await until(() => east.status?.reason === 'NotListed')
    expect(east.status?.message).toMatch(/^default: not trusted there: /)
    west.connections.set([listed('east', stranger)])
    await until(() => west.status?.reason === 'NotTrusted')
    await until(() => east.status?.reason === 'NotListed')
    west.connections.set([listed('east', authorities.east)])
    await until(() => east.status?.state === 'Up' && west.status?.state === 'Up')
  })

  test('a certificate of that authority for another filer is not trusted', async () => {
    const { east, west, authorities } = await bed()
    west.tls = await material(authorities.west, filerUri('ns', 'west', 'b'))
    east.connections.set([listed('west', authorities.west)])
    west.connections.set([listed('east', authorities.east)])
    await until(() => east.status?.reason === 'NotTrusted')
    expect(east.status?.message).toMatch(/names tandem:..ns.west.b, who is not expected here/)
  })

  test('authorities are renewed in place: nothing is dropped, and new connections need the new one', async () => {
    const { east, west, authorities } = await bed()
    east.connections.set([listed('west', authorities.west)])
    west.connections.set([listed('east', authorities.east)])
    await until(() => east.status?.state === 'Up' && west.status?.state === 'Up')
    const renewed = await newAuthority('west', Date.now())
    west.tls = await material(renewed, filerUri('ns', 'west', 'a'))
    east.connections.set([listed('west', { bundle: 'not PEM' })])
    east.connections.set([listed('west', { bundle: authorities.west.bundle + renewed.bundle })])
    expect([...east.downs, ...west.downs]).toEqual([])
    west.connections.set([])
    west.connections.set([listed('east', authorities.east)])
    await until(() => east.status?.state === 'Up' && west.status?.state === 'Up')
    east.connections.set([listed('west', renewed)])
    west.tls = await material(authorities.west, filerUri('ns', 'west', 'a'))
    west.connections.set([])
    west.connections.set([listed('east', authorities.east)])
    await until(() => east.status?.reason === 'NotTrusted')
  })

  test('where the other filer is, its handshake tells, and a start without the operator knows; what is handed over anew counts more', async () => {
    const networks = (end: number) =>
      new Map([
        ['default', addressOf(0, end)],
        ['storage', addressOf(1, end)],
      ])
    const { east, west, authorities } = await bed(networks(1), networks(2))
    const told = { default: addressOf(0, 2), storage: '127.0.0.1:1' }
    east.connections.set([listed('west', authorities.west, told)])
    west.connections.set([listed('east', authorities.east, Object.fromEntries(networks(1)))])
    const learned = Object.fromEntries(networks(2))
    await until(() => east.stored?.['west/a'] !== undefined)
    expect(east.stored).toEqual({ 'west/a': { told, learned } })
    await east.stop()
    // The only address that was handed over is wrong now, the one that was learned is not.
    const lost = { default: '127.0.0.1:1', storage: '127.0.0.1:1' }
    east.stored = { 'west/a': { told: lost, learned } }
    const again = await new End(made, 'east', east.tls, networks(1), east.stored).start()
    again.connections.set([listed('west', authorities.west, lost)])
    await until(() => again.status?.state === 'Up')
    again.connections.set([listed('west', authorities.west, told)])
    expect(again.status?.state).toBe('Up')
  })

  test('what cannot be is said: no interconnect in common, the own name, no authority', async () => {
    const { east, authorities } = await bed()
    east.connections.set([listed('west', authorities.west, { storage: '127.0.0.1:1' })])
    expect(east.status).toMatchObject({ state: 'Down', reason: 'NoCommonInterconnect' })
    east.connections.set([{ ...listed('west', authorities.west), pair: 'east' }])
    expect(east.status).toMatchObject({ state: 'Down', reason: 'InvalidPeer' })
    expect(east.status?.message).toMatch(/called ns\/east as this one/)
    east.connections.set([
      listed('west', { bundle: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' }),
    ])
    expect(east.status).toMatchObject({ state: 'Down', reason: 'InvalidPeer' })
  })
})

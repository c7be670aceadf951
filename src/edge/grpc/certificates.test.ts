/** Who gets in, and what a renewal does, over real TLS. */
import { afterEach, describe, expect, test } from '@jest/globals'
import { ConnectionManager } from '../../core/connection/manager.ts'
import { filerUri, newAuthority } from '../pki.ts'
import { GrpcDriver } from './driver.ts'
import { GrpcListener } from './listener.ts'
import { addressOf, FENCE, material, RealPair, Twin, until } from './testing/real-filers.ts'
import type { TlsMaterial } from './tls.ts'

let pair: RealPair | undefined
const managers: ConnectionManager[] = []

afterEach(async () => {
  await Promise.all(managers.splice(0).map((manager) => manager.stop()))
  await pair?.stop()
  expect(pair?.violations ?? []).toEqual([])
  pair = undefined
})

async function meet(a: TlsMaterial, b: TlsMaterial) {
  pair = await RealPair.make(['default'], { a: { current: () => a }, b: { current: () => b } })
  const filers = { a: pair.filer('a'), b: pair.filer('b') }
  const twins = { a: pair.twin(filers.a), b: pair.twin(filers.b) }
  filers.a.manager.start()
  filers.b.manager.start()
  return { a: filers.a, b: filers.b, twins }
}

describe('certificates', () => {
  test('one of another filer, another pair or another authority does not get in, and the reason is shown', async () => {
    const own = await newAuthority('pair p', Date.now())
    const stranger = await newAuthority('elsewhere', Date.now())
    const good = await material(own, filerUri('ns', 'p', 'a'))
    const bad: [TlsMaterial, RegExp][] = [
      [
        await material(own, filerUri('ns', 'p', 'c')),
        /certificate names tandem:..ns.p.c, who is not expected/,
      ],
      [await material(own, filerUri('ns', 'other', 'b')), /names tandem:..ns.other.b, who is not expected/],
      [await material(stranger, filerUri('ns', 'p', 'b'), own.bundle), /certificate|signature|issuer/],
    ]
    for (const [certificate, reason] of bad) {
      const { a, twins } = await meet(good, certificate)
      await until(() => reason.test(a.manager.links()[0]!.reason), 15_000, 'reason')
      expect(a.manager.links()[0]!.refusal).toBe('CertificateRefused')
      await until(() => pair!.lines.some(({ event }) => event === 'interconnect caller refused'))
      expect([...twins.a.events, ...twins.b.events]).toEqual([])
      expect(a.manager.channels()[0]).toMatchObject({ state: 'REQUESTED', reason: 'no interconnect works' })
      await pair!.stop()
    }
  })

  test('they renew in place: no channel is dropped, and new connections use the new ones', async () => {
    const first = await newAuthority('pair p', Date.now())
    const current = {
      a: await material(first, filerUri('ns', 'p', 'a')),
      b: await material(first, filerUri('ns', 'p', 'b')),
    }
    pair = await RealPair.make(['default'], {
      a: { current: () => current.a },
      b: { current: () => current.b },
    })
    const [a, b] = [pair.filer('a'), pair.filer('b')]
    const twins = { a: pair.twin(a), b: pair.twin(b) }
    a.manager.start()
    b.manager.start()
    await until(() => twins.a.whole && twins.b.whole)
    // A new authority altogether: an old certificate would be refused now.
    const second = await newAuthority('pair p', Date.now())
    current.a = await material(second, filerUri('ns', 'p', 'a'))
    current.b = await material(second, filerUri('ns', 'p', 'b'))
    await twins.a.channel!.send(new Uint8Array(1))
    pair.cut('default')
    await until(() => twins.a.channel === undefined)
    expect(twins.a.events).toEqual(['up 0 1', 'down 0 1'])
    pair.heal('default')
    await until(() => twins.a.whole && twins.b.whole)
    // Who still has the old one is a stranger now.
    current.b = await material(first, filerUri('ns', 'p', 'b'), second.bundle)
    pair.cut('default')
    await until(() => twins.a.channel === undefined)
    pair.heal('default')
    await until(() => /certificate|signature|issuer/.test(a.manager.links()[0]!.reason))
    expect(twins.a.channel).toBeUndefined()
  })

  test('filers of other pairs: one address, a manager and an authority for each; no authority can name a filer of another', async () => {
    pair = await RealPair.make([])
    const log = (): void => undefined
    const [east, west] = [await newAuthority('east', Date.now()), await newAuthority('west', Date.now())]
    const env = pair.env()
    const listeners = Array.from(
      { length: 4 },
      (_, i) => new GrpcListener({ listen: addressOf(9, i + 1), log, certificateRefreshMs: 20 }),
    )
    const manager = (
      i: number,
      own: string,
      peer: string,
      tls: TlsMaterial,
      to: number,
      name: (uri: string) => string,
    ) => {
      const driver = new GrpcDriver({
        name: 'default',
        listener: listeners[i]!,
        tls: { current: () => tls },
        partnerUri: `tandem://${peer}`,
      })
      const made = new ConnectionManager({
        env,
        systemId: name(own),
        partnerId: name(peer),
        incarnation: 1,
        logBytes: 1,
        drivers: [driver],
        peerAddresses: { default: addressOf(9, to + 1) },
      })
      const twin = new Twin(pair!.violations)
      made.register(twin)
      managers.push(made)
      made.start()
      return twin
    }
    const short = (uri: string) => uri.split('/')[2]!
    const whole = (uri: string) => uri
    // Filer a of east has a partner, b, and a peer, a of west, behind the same address.
    const eastA = await material(east, 'tandem://ns/east/a')
    const eastB = await material(east, 'tandem://ns/east/b')
    const westA = await material(west, 'tandem://ns/west/a')
    const partner = manager(0, 'ns/east/a', 'ns/east/b', eastA, 1, short)
    const partners = manager(1, 'ns/east/b', 'ns/east/a', eastB, 0, short)
    const mirror = manager(0, 'ns/east/a', 'ns/west/a', { ...eastA, ca: west.bundle }, 2, whole)
    const mirrors = manager(2, 'ns/west/a', 'ns/east/a', { ...westA, ca: east.bundle }, 0, whole)
    await until(() => [partner, partners, mirror, mirrors].every((twin) => twin.whole), 15_000, 'channels')
    await mirrors.channel!.write(1, 0, [new Uint8Array(8).fill(7)], FENCE)
    await partners.channel!.write(1, 0, [new Uint8Array(8).fill(5)], FENCE)
    expect([mirror.memory.content[7], partner.memory.content[7]]).toEqual([7, 5])
    // West's authority, trusted for its own filers, says that somebody is b of east.
    const liar = await material(west, 'tandem://ns/east/b', east.bundle)
    const refused = new Promise<string>((resolve) => {
      new GrpcDriver({
        name: 'default',
        listener: listeners[3]!,
        tls: { current: () => liar },
        partnerUri: 'tandem://ns/east/a',
      }).dial(addressOf(9, 1), {
        opened: () => resolve('it was let in'),
        received: () => undefined,
        drained: () => undefined,
        closed: resolve,
      })
    })
    expect(await refused).toBe(
      'not trusted there: certificate names tandem://ns/east/b, who is not expected here',
    )
    // The peer goes, the partner stays.
    await managers[2]!.stop()
    await partner.channel!.send(new Uint8Array(1))
    expect(partner.events).toEqual(['up 0 1'])
    await until(() => mirrors.channel === undefined)
  })
})

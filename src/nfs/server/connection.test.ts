import { afterEach, describe, expect, test } from '@jest/globals'
import { NfsClient, NfsError } from '../client/nfs-client.ts'
import { MOUNT_PROGRAM } from '../mount/mount3.ts'
import { AUTH_NONE, GARBAGE_ARGS, PROC_UNAVAIL, PROG_MISMATCH, PROG_UNAVAIL } from '../rpc/rpc.ts'
import { Loopback } from '../testing/loopback.ts'
import { MemoryVfs } from '../testing/memory-vfs.ts'
import type { Reply } from '../testing/wire.ts'
import { Wire, marked, message, record } from '../testing/wire.ts'
import { PROCEDURES, STATUS } from '../v3/constants.ts'
import type { XdrWriter } from '../xdr.ts'
import { RECORD_BYTES_MAX } from './record-reader.ts'

const number = (name: (typeof PROCEDURES)[number]): number => PROCEDURES.indexOf(name)
const getattr = (root: Uint8Array) => ({
  procedure: number('GETATTR'),
  write: (w: XdrWriter) => w.opaque(root),
})
const status = (reply: Reply): number => reply.results.u32()

function creation(root: Uint8Array, name: string, xid: number) {
  return {
    xid,
    procedure: number('MKDIR'),
    write(w: XdrWriter) {
      w.opaque(root)
      w.string(name)
      for (let i = 0; i < 6; i++) w.u32(0)
    },
  }
}

function writing(file: Uint8Array, offset: number, data: Uint8Array, xid = 1) {
  return {
    xid,
    procedure: number('WRITE'),
    write(w: XdrWriter) {
      w.opaque(file)
      w.u64(offset)
      w.u32(data.byteLength)
      w.u32(2)
      w.opaque(data)
    },
  }
}

function reading(file: Uint8Array, offset: number, count: number, xid = 1) {
  return {
    xid,
    procedure: number('READ'),
    write(w: XdrWriter) {
      w.opaque(file)
      w.u64(offset)
      w.u32(count)
    },
  }
}

function fileOf(vfs: MemoryVfs, size: number): Uint8Array {
  const caller = { uid: 0, gid: 0, gids: [] }
  const made = vfs.create(caller, vfs.root, `f${size}`, { mode: 'UNCHECKED', attributes: { size } })
  if (made instanceof Promise || !made.ok) throw new Error('not made')
  return made.object.handle
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('bytes on the wire (RFC 5531, RFC 1813)', () => {
  test('GETATTR of the root, to the byte', () => {
    const wire = new Wire(new MemoryVfs())
    const call = Buffer.from(
      '8000004c' + // last fragment, 76 bytes
        '0000002a' +
        '00000000' +
        '00000002' +
        '000186a3' +
        '00000003' +
        '00000001' + // xid, CALL, RPC 2, NFS 3, GETATTR
        '00000000' +
        '00000000' +
        '00000000' +
        '00000000' + // AUTH_NONE twice
        '00000020' +
        '00abcdef' +
        '00000001' +
        '00'.repeat(24), // handle
      'hex',
    )
    wire.feed(call)
    expect(wire.raw().toString('hex')).toBe(
      '80000070' +
        '0000002a' +
        '00000001' +
        '00000000' +
        '00000000' +
        '00000000' +
        '00000000' + // xid, REPLY, accepted, AUTH_NONE, SUCCESS
        '00000000' + // NFS3_OK
        '00000002' +
        '000001ff' +
        '00000002' +
        '00000000' +
        '00000000' + // DIR, 0777, two links, root's
        '0000000000000000' +
        '0000000000000000' +
        '00000000' +
        '00000000' + // size, used, rdev
        '0000000000abcdef' +
        '0000000000000001' + // fsid, fileid
        '6553f10000000001'.repeat(3),
    )
  })

  test('MNT answers with the handle and AUTH_SYS', () => {
    const wire = new Wire(new MemoryVfs())
    wire.feed(record({ xid: 7, program: MOUNT_PROGRAM, procedure: 1, write: (w) => w.string('/memory') }))
    expect(wire.raw().subarray(28).toString('hex')).toBe(
      '00000000' + '00000020' + '00abcdef' + '00000001' + '00'.repeat(24) + '00000001' + '00000001',
    )
  })

  test('READ pads its data to four bytes', () => {
    const vfs = new MemoryVfs()
    const file = fileOf(vfs, 0)
    const wire = new Wire(vfs)
    wire.ask(writing(file, 0, Buffer.from('abcde')))
    wire.feed(record(reading(file, 0, 100)))
    expect(
      wire
        .raw()
        .subarray(28 + 4 + 88)
        .toString('hex'),
    ).toBe('00000005' + '00000001' + '00000005' + '6162636465000000')
  })

  test('any cut of the stream gives the same replies: single bytes, fragments, empty fragments', () => {
    const vfs = new MemoryVfs()
    const calls = Array.from({ length: 20 }, (_, i) => message({ xid: i, ...getattr(vfs.root) }))
    const whole = new Wire(vfs)
    whole.feed(Buffer.concat(calls.map((call) => marked(call))))
    const bytewise = new Wire(vfs)
    bytewise.feed(Buffer.concat(calls.map((call) => marked(call))), 1)
    const pieces = new Wire(vfs)
    pieces.feed(
      Buffer.concat(
        calls.flatMap((call, i) => [
          marked(call.subarray(0, 3 * i), false),
          marked(Buffer.alloc(0), false),
          marked(call.subarray(3 * i)),
        ]),
      ),
      13,
    )
    const expected = whole.raw()
    expect(expected.length).toBe(20 * 116)
    expect(bytewise.raw()).toEqual(expected)
    expect(pieces.raw()).toEqual(expected)
  })

  test('large WRITEs and READs arrive whole, however they are cut', async () => {
    for (const delayed of [false, true]) {
      const vfs = new MemoryVfs({ delayed })
      const file = await vfs.create({ uid: 0, gid: 0, gids: [] }, vfs.root, 'f', {
        mode: 'UNCHECKED',
        attributes: {},
      })
      if (!file.ok) throw new Error('not made')
      const { handle } = file.object
      const wire = new Wire(vfs)
      const data = Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => (i * 7 + (i >> 8)) & 255))
      const stream = Buffer.concat([
        ...[0, 1, 2].map((i) => record(writing(handle, i << 20, data, i))),
        record(reading(handle, 1 << 20, 1 << 20, 3)),
        record(reading(handle, 5, 70_001, 4)),
        record(writing(handle, 0, data.subarray(0, 300_001), 5)),
        record(reading(handle, 0, 300_000, 6)),
      ])
      let left: Uint8Array = stream
      while (left.byteLength > 0) {
        left = wire.feed(left, 65_521)
        await settled()
      }
      await settled()
      const replies = new Map(wire.replies().map((reply) => [reply.xid, reply.results]))
      expect(replies.size).toBe(7)
      const dataOf = (xid: number): Buffer => {
        const r = replies.get(xid)!
        r.skip(4 + 88 + 8)
        return r.opaque(1 << 20)
      }
      expect(Buffer.compare(dataOf(3), data)).toBe(0)
      expect(Buffer.compare(dataOf(4), data.subarray(5, 70_006))).toBe(0)
      expect(Buffer.compare(dataOf(6), data.subarray(0, 300_000))).toBe(0)
      wire.connection.close()
      expect(wire.server.memoryBytes).toBe(0)
    }
  })
})

describe('calls that are none of ours', () => {
  const wire = new Wire(new MemoryVfs())
  const ask = (parts: Parameters<typeof record>[0]): { denied: number; stat: number; rest: number[] } => {
    const { denied, stat, results } = wire.ask(parts)
    const rest: number[] = []
    while (results.left > 0) rest.push(results.u32())
    return { denied, stat, rest }
  }

  test('unknown program (NFSACL), version, procedure', () => {
    expect(ask({ program: 100227, procedure: 0 })).toEqual({ denied: 0, stat: PROG_UNAVAIL, rest: [] })
    expect(ask({ version: 4, procedure: 0 })).toEqual({ denied: 0, stat: PROG_MISMATCH, rest: [3, 3] })
    expect(ask({ program: MOUNT_PROGRAM, version: 1, procedure: 0 })).toMatchObject({
      stat: PROG_MISMATCH,
      rest: [3, 3],
    })
    expect(ask({ procedure: 22 })).toEqual({ denied: 0, stat: PROC_UNAVAIL, rest: [] })
    expect(ask({ program: MOUNT_PROGRAM, procedure: 6 })).toEqual({ denied: 0, stat: PROC_UNAVAIL, rest: [] })
  })

  test('arguments that are too short or impossible', () => {
    for (let procedure = 1; procedure <= 21; procedure++)
      expect(ask({ procedure, write: (w) => w.u32(0xffff_ffff) })).toEqual({
        denied: 0,
        stat: GARBAGE_ARGS,
        rest: [],
      })
  })

  test('RPC version and credentials', () => {
    expect(ask({ rpcVersion: 3, procedure: 0 })).toEqual({ denied: 1, stat: 0, rest: [2, 2] })
    expect(ask({ flavor: 6, procedure: 0 })).toEqual({ denied: 1, stat: 1, rest: [2] })
    const tooManyGroups = Array.from({ length: 17 }, (_, i) => i)
    expect(ask({ gids: tooManyGroups, procedure: 0 })).toEqual({ denied: 1, stat: 1, rest: [1] })
    expect(ask({ flavor: AUTH_NONE, procedure: 0 })).toEqual({ denied: 0, stat: 0, rest: [] })
  })

  test('what cannot be a call costs the connection and makes one line', () => {
    const bad = {
      'record mark of 2 GiB': Buffer.from('ffffffff', 'hex'),
      'record one byte too long': Buffer.from((0x8000_0001 + RECORD_BYTES_MAX).toString(16), 'hex'),
      'record of nothing': marked(Buffer.alloc(0)),
      'record of noise': marked(Buffer.alloc(100, 0xa5)),
      'a reply': marked(Buffer.from('0000000100000001'.padEnd(80, '0'), 'hex')),
      'credential too long': marked(
        Buffer.from(
          '00000001000000000000000200018 6a300000003000000000000000100000fff'.replace(' ', ''),
          'hex',
        ),
      ),
      'fragments without end': Buffer.concat(
        Array.from({ length: 20 }, () => marked(Buffer.alloc(100_000), false)),
      ),
    }
    for (const [name, bytes] of Object.entries(bad)) {
      const victim = new Wire(new MemoryVfs())
      victim.feed(bytes, 50_000)
      expect([name, victim.closed, victim.lines.length, victim.raw().length]).toEqual([name, true, 1, 0])
      expect(victim.server.connections).toBe(0)
      expect(victim.server.memoryBytes).toBe(0)
    }
  })
})

describe('speed is a property', () => {
  test('GETATTR, LOOKUP and READ of what is at hand are answered before input returns, a burst of them by one send', () => {
    const vfs = new MemoryVfs()
    const file = fileOf(vfs, 8192)
    const wire = new Wire(vfs)
    const lookup = {
      procedure: number('LOOKUP'),
      write(w: XdrWriter) {
        w.opaque(vfs.root)
        w.string('f8192')
      },
    }
    wire.feed(Buffer.concat([record(getattr(file)), record(lookup), record(reading(file, 0, 4096))]))
    expect(wire.replies().map(status)).toEqual([0, 0, 0])
    expect(wire.sends).toBe(1)
  })

  test('answers that come in one tick leave as one send', async () => {
    const vfs = new MemoryVfs({ delayed: true })
    const wire = new Wire(vfs)
    wire.feed(Buffer.concat(Array.from({ length: 50 }, (_, xid) => record({ xid, ...getattr(vfs.root) }))))
    expect(wire.sends).toBe(0)
    await settled()
    expect(wire.replies()).toHaveLength(50)
    expect(wire.sends).toBe(1)
  })
})

describe('bounded', () => {
  test('a client that takes no replies is not read any more, and goes on where it stopped', async () => {
    const vfs = new MemoryVfs()
    const file = fileOf(vfs, 1 << 20)
    const wire = new Wire(vfs)
    wire.slow = true
    const calls = 200
    let left: Uint8Array = Buffer.concat(
      Array.from({ length: calls }, (_, xid) => record(reading(file, 0, 1 << 20, xid))),
    )
    left = wire.feed(left)
    expect(wire.paused).toBe(true)
    expect(wire.outBytes).toBeLessThan(6 << 20)
    expect(wire.server.memoryBytes).toBeLessThan(8 << 20)
    let answered = 0
    for (let i = 0; i < calls && answered < calls; i++) {
      wire.take()
      answered += wire.replies().length
      left = wire.feed(left)
      await settled()
    }
    expect(answered).toBe(calls)
    expect(wire.paused).toBe(false)
  })

  test('calls in flight are limited in number and bytes', async () => {
    const vfs = new MemoryVfs({ delayed: true })
    let open = (): void => undefined
    vfs.gate = new Promise<void>((resolve) => (open = resolve))
    const wire = new Wire(vfs, { callsInFlight: 10, bytesInFlight: 1 << 30 })
    let left = wire.feed(
      Buffer.concat(Array.from({ length: 5000 }, (_, xid) => record({ xid, ...getattr(vfs.root) }))),
    )
    expect(wire.paused).toBe(true)
    await settled()
    expect(wire.replies()).toHaveLength(0)
    open()
    let answered = 0
    while (answered < 5000) {
      await settled()
      answered += wire.replies().length
      left = wire.feed(left)
    }
    expect(answered).toBe(5000)
    expect(left.byteLength).toBe(0)
  })

  test('over the memory limit every connection still gets one call at a time', async () => {
    const vfs = new MemoryVfs({ delayed: true })
    const first = new Wire(vfs, { memoryBytes: 1 })
    const wires = [first, ...Array.from({ length: 9 }, () => new Wire(vfs, {}, { server: first.server }))]
    for (const [i, wire] of wires.entries())
      wire.feed(Buffer.concat([1, 2, 3].map((xid) => record({ xid: 10 * i + xid, ...getattr(vfs.root) }))))
    expect(wires.every((wire) => wire.paused)).toBe(true)
    for (let i = 0; i < 10; i++) await settled()
    expect(wires.map((wire) => wire.replies().length)).toEqual(wires.map(() => 3))
  })

  test('connections are limited in number', () => {
    const wire = new Wire(new MemoryVfs(), { connections: 2 })
    expect(wire.server.connect('192.0.2.2', wire)).toBeDefined()
    expect(wire.server.connect('192.0.2.3', wire)).toBeUndefined()
    expect(wire.server.connect('not an address', wire)).toBeUndefined()
  })

  test('a connection that ends in the middle leaves no memory behind', async () => {
    const vfs = new MemoryVfs({ delayed: true })
    const wire = new Wire(vfs)
    const large = record(writing(vfs.root, 0, Buffer.alloc(900_000)))
    wire.feed(Buffer.concat([record(getattr(vfs.root)), large, large.subarray(0, 500_000)]))
    wire.connection.ended()
    await settled()
    expect(wire.server.memoryBytes).toBe(0)
    expect(wire.replies()).toHaveLength(0)
  })
})

describe('who may do what', () => {
  const rules = [
    { clients: ['10.0.0.0/8'], access: 'ReadOnly', squash: 'None' },
    { clients: ['192.0.2.7', '2001:db8::/32'], access: 'ReadWrite', squash: 'All' },
    { clients: ['192.0.2.0/24'], access: 'ReadWrite', squash: 'Root' },
  ] as const
  const at = (address: string): Wire => new Wire(new MemoryVfs({ rules }), {}, { address })
  const root = new MemoryVfs().root

  test('no rule, no access', () => {
    const wire = at('172.16.0.1')
    expect(
      status(wire.ask({ program: MOUNT_PROGRAM, procedure: 1, write: (w) => w.string('/memory') })),
    ).toBe(STATUS.ACCES)
    expect(status(wire.ask(getattr(root)))).toBe(STATUS.ACCES)
  })

  test('read-only: nothing changes, ACCESS does not promise it', () => {
    const wire = at('::ffff:10.1.2.3')
    expect(status(wire.ask(creation(root, 'x', 1)))).toBe(STATUS.ROFS)
    const access = wire.ask({
      procedure: number('ACCESS'),
      write(w) {
        w.opaque(root)
        w.u32(0x3f)
      },
    })
    expect(status(access)).toBe(0)
    access.results.skip(88)
    expect(access.results.u32()).toBe(0x23)
  })

  const owner = (wire: Wire, uid: number, gid: number, flavor = 1): [number, number] => {
    const made = wire.ask({ ...creation(root, `by-${uid}-${flavor}`, 1), uid, gid, flavor })
    expect(status(made)).toBe(0)
    made.results.skip(4 + 36 + 4 + 12)
    return [made.results.u32(), made.results.u32()]
  }

  test('squash: root, all, and callers without a name', () => {
    expect(owner(at('192.0.2.1'), 0, 0)).toEqual([65534, 65534])
    expect(owner(at('192.0.2.1'), 1000, 0)).toEqual([1000, 65534])
    expect(owner(at('192.0.2.7'), 1000, 100)).toEqual([65534, 65534])
    expect(owner(at('2001:db8::1'), 1000, 100)).toEqual([65534, 65534])
    expect(owner(at('192.0.2.1'), 0, 0, AUTH_NONE)).toEqual([65534, 65534])
  })

  test('changed rules hold for connections that are there', () => {
    const vfs = new MemoryVfs({ rules })
    const wire = new Wire(vfs, {}, { address: '192.0.2.1' })
    expect(status(wire.ask(creation(root, 'a', 1)))).toBe(0)
    vfs.setRules([{ clients: ['192.0.2.1'], access: 'ReadOnly', squash: 'None' }])
    expect(status(wire.ask(creation(root, 'b', 2)))).toBe(STATUS.ROFS)
    vfs.setRules([])
    expect(status(wire.ask(getattr(root)))).toBe(STATUS.ACCES)
  })
})

describe('once is once', () => {
  test('a retransmission waits for the first call, also on another connection', async () => {
    const vfs = new MemoryVfs({ delayed: true })
    let open = (): void => undefined
    vfs.gate = new Promise<void>((resolve) => (open = resolve))
    const first = new Wire(vfs)
    const second = new Wire(vfs, {}, { server: first.server })
    const call = record(creation(vfs.root, 'once', 99))
    first.feed(Buffer.concat([call, call]))
    second.feed(call)
    open()
    await settled()
    const replies = [...first.replies(), ...second.replies()]
    expect(replies.map(status)).toEqual([0, 0, 0])
    expect(vfs.changes).toBe(1)
  })

  test('a retransmission after the answer gets the first answer; another call with the same xid does not', () => {
    const vfs = new MemoryVfs()
    const wire = new Wire(vfs)
    const call = record(creation(vfs.root, 'again', 5))
    wire.feed(call)
    const first = wire.raw()
    wire.feed(call)
    expect(wire.raw()).toEqual(first)
    expect(vfs.changes).toBe(1)
    expect(status(wire.ask(creation(vfs.root, 'other', 5)))).toBe(0)
    expect(status(wire.ask({ ...creation(vfs.root, 'again', 5), machine: 'somebody else' }))).toBe(
      STATUS.EXIST,
    )
  })
})

test('a volume that is not served here costs the connection, without a line in the log', async () => {
  for (const delayed of [false, true]) {
    const vfs = new MemoryVfs({ delayed })
    const wire = new Wire(vfs)
    wire.feed(record(getattr(vfs.root)))
    await settled()
    expect(wire.replies()).toHaveLength(1)
    vfs.served = false
    wire.feed(record(getattr(vfs.root)))
    await settled()
    expect([wire.closed, wire.lines.length]).toEqual([true, 0])
  }
})

describe('over TCP', () => {
  let loopback: Loopback
  afterEach(() => loopback.close())

  test('a client that breaks and returns gets every answer once, whatever was lost on the way', async () => {
    const vfs = new MemoryVfs({ delayed: true })
    loopback = await Loopback.start(vfs)
    const client = loopback.client()
    const root = await client.mount('/memory')
    const made: Promise<unknown>[] = []
    for (let i = 0; i < 300; i++) {
      made.push(client.mkdir(root, `d${i}`))
      if (i % 50 === 25) client.rpc.breakConnection()
      if (i % 10 === 0) await settled()
    }
    await Promise.all(made)
    expect((await client.list(root)).length).toBe(300)
    expect(vfs.changes).toBe(300)
    expect(client.rpc.reconnects).toBeGreaterThan(0)
    expect(client.rpc.longestGapMs).toBeGreaterThan(0)
  })

  test('a server that moves is a pause', async () => {
    const vfs = new MemoryVfs()
    loopback = await Loopback.start(vfs)
    const { port } = loopback
    const client = loopback.client({ reconnectDelayMs: 5 })
    const root = await client.mount('/memory')
    loopback.tcp.close()
    const call = client.mkdir(root, 'later')
    await settled()
    const next = await Loopback.start(vfs, {}, port)
    expect((await call).attributes?.type).toBe('DIR')
    client.close()
    next.close()
  })

  test('a slow reader does not hold the others up', async () => {
    const vfs = new MemoryVfs()
    const file = fileOf(vfs, 1 << 20)
    loopback = await Loopback.start(vfs)
    const slow = loopback.client()
    const quick = loopback.client()
    const reads = Array.from({ length: 64 }, () => slow.read(file, 0, 1 << 20))
    for (let i = 0; i < 100; i++) await quick.getattr(file)
    expect((await Promise.all(reads)).every(({ data }) => data.byteLength === 1 << 20)).toBe(true)
  })

  test('a call that times out, and one to nobody', async () => {
    const vfs = new MemoryVfs({ delayed: true })
    vfs.gate = new Promise(() => undefined)
    loopback = await Loopback.start(vfs)
    const client = loopback.client({ callTimeoutMs: 50 })
    await expect(client.getattr(vfs.root)).rejects.toMatchObject({ code: 'TIMEOUT' })
    await expect(client.mount('/nothing')).rejects.toThrow(NfsError)
    const nobody = new NfsClient({ host: '127.0.0.1', port: 1, callTimeoutMs: 50 })
    await expect(nobody.null()).rejects.toMatchObject({ code: 'TIMEOUT' })
    nobody.close()
  })
})

/**
 * MOUNT version 3 (RFC 1813, appendix I), on the same port as NFS. A path is an export's, or one below it, which is looked up as
 * the caller. No list of mounts is kept: a takeover would lose it, and clients forget to unmount; DUMP answers with an empty one.
 */
import type { MaybePromise } from '../../core/std/maybe.ts'
import type { Caller, Export, Status, Vfs } from '../../core/vfs/vfs.ts'
import { AUTH_SYS } from '../rpc/rpc.ts'
import type { Call, Procedure } from '../server/call.ts'
import { squash } from '../server/exports.ts'
import type { XdrWriter } from '../xdr.ts'
import { opaqueBytes } from '../xdr.ts'
import { NULL } from '../v3/null.ts'
import { STATUS } from '../v3/constants.ts'

export const MOUNT_PROGRAM = 100005
export const MOUNT_V3 = 3
export const MNTPATHLEN = 1024
const MNTNAMLEN = 255

/** What mountstat3 has a code for (the same numbers as nfsstat3). */
const MOUNT_STATUS: ReadonlySet<Status> = new Set([
  'PERM',
  'NOENT',
  'IO',
  'ACCES',
  'NOTDIR',
  'INVAL',
  'NAMETOOLONG',
])

type Mounted = { readonly handle: Uint8Array } | { readonly status: Status }

const tidy = (path: string): string => '/' + path.split('/').filter(Boolean).join('/')

/** The export whose path is the longest that `path` begins with, and the names below it. */
function find(exports: readonly Export[], path: string): { exported: Export; names: string[] } | undefined {
  let best: { exported: Export; names: string[]; bytes: number } | undefined
  for (const exported of exports) {
    const base = tidy(exported.path)
    const prefix = base === '/' ? '/' : base + '/'
    if (path !== base && !path.startsWith(prefix)) continue
    if (best && best.bytes >= base.length) continue
    best = { exported, names: path.slice(base.length).split('/').filter(Boolean), bytes: base.length }
  }
  return best
}

async function descend(
  vfs: Vfs,
  caller: Caller,
  root: Uint8Array,
  names: readonly string[],
): Promise<Mounted> {
  let handle = root
  for (const name of names) {
    const found = await vfs.lookup(caller, handle, name)
    if (!found.ok) return { status: found.status }
    if (found.object.attributes.type !== 'DIR') return { status: 'NOTDIR' }
    handle = found.object.handle
  }
  return { handle }
}

function mount(call: Call, path: string): MaybePromise<Mounted> {
  const found = find(call.vfs.exports(), tidy(path))
  if (!found) return { status: 'NOENT' }
  const rule = call.peer.rule(found.exported)
  if (!rule) return { status: 'ACCES' }
  const { root } = found.exported
  if (found.names.length === 0) return { handle: root }
  return descend(call.vfs, squash(call.credential, rule.squash), root, found.names)
}

const MNT: Procedure<Mounted> = {
  name: 'MNT',
  replyBytesMax: 4 + opaqueBytes(64) + 8,
  run: (call) => mount(call, call.args.string(MNTPATHLEN)),
  encode(w, result) {
    if ('status' in result)
      return w.u32(STATUS[MOUNT_STATUS.has(result.status) ? result.status : 'SERVERFAULT'])
    w.u32(0)
    w.opaque(result.handle)
    w.u32(1)
    w.u32(AUTH_SYS)
  },
}

const DUMP: Procedure<undefined> = {
  name: 'DUMP',
  replyBytesMax: 4,
  run: () => undefined,
  encode: (w) => w.u32(0),
}

const UMNT: Procedure<string> = {
  name: 'UMNT',
  replyBytesMax: 0,
  run: (call) => call.args.string(MNTPATHLEN),
  encode: () => undefined,
}

const UMNTALL: Procedure<undefined> = {
  name: 'UMNTALL',
  replyBytesMax: 0,
  run: () => undefined,
  encode: () => undefined,
}

/** Most bytes of a list of exports. */
const EXPORTS_BYTES_MAX = 512 * 1024

/** exports: each with the clients of its rules as groups. What does not fit into a reply is left out. */
function writeExports(w: XdrWriter, exports: readonly Export[]): void {
  const end = w.at + EXPORTS_BYTES_MAX - 8
  for (const exported of exports) {
    const path = exported.path.slice(0, MNTPATHLEN)
    const clients = exported.rules.flatMap((rule) => rule.clients).map((client) => client.slice(0, MNTNAMLEN))
    const bytes = clients.reduce(
      (sum, client) => sum + 4 + opaqueBytes(client.length),
      8 + opaqueBytes(path.length),
    )
    if (w.at + bytes > end) break
    w.u32(1)
    w.string(path)
    for (const client of clients) {
      w.u32(1)
      w.string(client)
    }
    w.u32(0)
  }
  w.u32(0)
}

const EXPORT: Procedure<readonly Export[]> = {
  name: 'EXPORT',
  replyBytesMax: EXPORTS_BYTES_MAX,
  run: (call) => call.vfs.exports(),
  encode: writeExports,
}

const erase = <R>(procedure: Procedure<R>): Procedure<unknown> => procedure

export const MOUNT_V3_PROCEDURES: readonly Procedure<unknown>[] = [
  erase(NULL),
  erase(MNT),
  erase(DUMP),
  erase(UMNT),
  erase(UMNTALL),
  erase(EXPORT),
]

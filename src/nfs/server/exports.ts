/**
 * Which client may do what with an export: rules by address, first match wins; then squashing of the caller's identity.
 *
 * Rules are parsed once per `Export` object (which is replaced, never changed). An address without a matching rule has no
 * access. A rule entry that is no address matches nobody.
 */
import type { Caller, Export, ExportRule } from '../../core/vfs/vfs.ts'
import type { Credential } from '../rpc/rpc.ts'

/** uid and gid of nobody. */
export const ANONYMOUS = 65534

/** 16 bytes; an IPv4 address is written as IPv4-mapped (::ffff:a.b.c.d). */
export type Address = Uint8Array

function parseIPv4(text: string): number[] | undefined {
  const parts = text.split('.')
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256))
    return undefined
  return parts.map(Number)
}

function parseIPv6(text: string): Address | undefined {
  let words = text
  const dotted = /^(.*:)([\d.]+)$/.exec(text)
  if (dotted?.[2]?.includes('.')) {
    const [a, b, c, d] = parseIPv4(dotted[2]) ?? []
    if (a === undefined) return undefined
    words = `${dotted[1]}${((a << 8) | b!).toString(16)}:${((c! << 8) | d!).toString(16)}`
  }
  const halves = words.split('::')
  if (halves.length > 2) return undefined
  const lists = halves.map((half) => (half === '' ? [] : half.split(':')))
  const [front = [], back = []] = lists
  const missing = 8 - front.length - back.length
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined
  const all = [...front, ...Array.from({ length: missing }, () => '0'), ...back]
  const address = new Uint8Array(16)
  for (const [i, word] of all.entries()) {
    if (!/^[0-9a-fA-F]{1,4}$/.test(word)) return undefined
    const value = Number.parseInt(word, 16)
    address[2 * i] = value >> 8
    address[2 * i + 1] = value & 255
  }
  return address
}

export function parseAddress(text: string): Address | undefined {
  const v4 = parseIPv4(text)
  if (v4) return Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...v4])
  return parseIPv6(text.split('%', 1)[0]!)
}

export interface Block {
  readonly address: Address
  readonly bits: number
}

/** A CIDR block or a single address; undefined if it is neither. */
export function parseBlock(text: string): Block | undefined {
  const [host = '', length, more] = text.split('/')
  const address = parseAddress(host)
  if (!address || more !== undefined) return undefined
  const v4 = !host.includes(':')
  if (length === undefined) return { address, bits: 128 }
  if (!/^\d{1,3}$/.test(length)) return undefined
  const bits = Number(length) + (v4 ? 96 : 0)
  return bits <= 128 ? { address, bits } : undefined
}

export function contains(block: Block, address: Address): boolean {
  const whole = block.bits >> 3
  for (let i = 0; i < whole; i++) if (block.address[i] !== address[i]) return false
  const rest = block.bits & 7
  return rest === 0 || (block.address[whole]! ^ address[whole]!) >> (8 - rest) === 0
}

const parsed = new WeakMap<
  Export,
  readonly { readonly rule: ExportRule; readonly blocks: readonly Block[] }[]
>()

/** The rule that applies to a client at this address. */
export function ruleFor(exported: Export, address: Address): ExportRule | undefined {
  let rules = parsed.get(exported)
  if (!rules) {
    rules = exported.rules.map((rule) => ({
      rule,
      blocks: rule.clients.flatMap((client) => parseBlock(client) ?? []),
    }))
    parsed.set(exported, rules)
  }
  return rules.find(({ blocks }) => blocks.some((block) => contains(block, address)))?.rule
}

const NOBODY: Caller = { uid: ANONYMOUS, gid: ANONYMOUS, gids: [] }

/** Who the caller is to the file system. */
export function squash(credential: Credential | undefined, how: ExportRule['squash']): Caller {
  if (!credential || how === 'All') return NOBODY
  const { uid, gid, gids } = credential
  if (how === 'None') return { uid, gid, gids }
  const notRoot = (id: number): number => (id === 0 ? ANONYMOUS : id)
  return { uid: notRoot(uid), gid: notRoot(gid), gids: gids.map(notRoot) }
}

/**
 * A file system as POSIX describes it, in plain maps: what a volume is compared with. It knows the superuser alone; permissions
 * have tests of their own.
 */
import { BLOCK_BYTES } from '../../env/device.ts'
import type { FileType } from '../../vfs/vfs.ts'

export interface Node {
  readonly type: FileType
  mode: number
  nlink: number
  size: number
  readonly blocks: Map<number, Uint8Array>
  readonly path: string
  readonly entries: Map<string, Node>
  parent: Node | undefined
  /** Of the volume's object; set when it is made. */
  handle: Uint8Array
}

export function newNode(type: FileType, mode: number, parent?: Node, path = ''): Node {
  return {
    type,
    mode,
    nlink: type === 'DIR' ? 2 : 1,
    size: path.length,
    blocks: new Map(),
    path,
    entries: new Map(),
    parent,
    handle: new Uint8Array(0),
  }
}

export class Model {
  readonly root = newNode('DIR', 0o777)
  /** Everything ever made, removed things too: their handles must be stale. */
  readonly nodes: Node[] = [this.root]

  add(directory: Node, name: string, node: Node): void {
    directory.entries.set(name, node)
    if (node.type === 'DIR') directory.nlink += 1
    this.nodes.push(node)
  }

  private drop(directory: Node, node: Node): void {
    if (node.type === 'DIR') {
      directory.nlink -= 1
      node.nlink = 0
    } else {
      node.nlink -= 1
    }
  }

  remove(directory: Node, name: string, what: 'FILE' | 'DIR'): string {
    const node = directory.entries.get(name)
    if (node === undefined) return 'NOENT'
    if (what === 'FILE' && node.type === 'DIR') return 'ISDIR'
    if (what === 'DIR' && node.type !== 'DIR') return 'NOTDIR'
    if (what === 'DIR' && node.entries.size > 0) return 'NOTEMPTY'
    directory.entries.delete(name)
    this.drop(directory, node)
    return 'OK'
  }

  link(node: Node, directory: Node, name: string): string {
    if (node.type === 'DIR') return 'PERM'
    if (directory.entries.has(name)) return 'EXIST'
    directory.entries.set(name, node)
    node.nlink += 1
    return 'OK'
  }

  rename(from: Node, fromName: string, to: Node, toName: string): string {
    const node = from.entries.get(fromName)
    if (node === undefined) return 'NOENT'
    const target = to.entries.get(toName)
    if (target === node) return 'OK'
    if (node.type === 'DIR') {
      for (let at: Node | undefined = to; at !== undefined; at = at.parent) if (at === node) return 'INVAL'
    }
    if (target !== undefined) {
      if (node.type === 'DIR' && target.type !== 'DIR') return 'NOTDIR'
      if (node.type !== 'DIR' && target.type === 'DIR') return 'ISDIR'
      if (target.entries.size > 0) return 'NOTEMPTY'
      this.drop(to, target)
    }
    from.entries.delete(fromName)
    to.entries.set(toName, node)
    if (node.type === 'DIR') {
      from.nlink -= 1
      to.nlink += 1
      node.parent = to
    }
    return 'OK'
  }

  write(node: Node, offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const fbn = Math.floor((offset + i) / BLOCK_BYTES)
      let block = node.blocks.get(fbn)
      if (block === undefined) node.blocks.set(fbn, (block = new Uint8Array(BLOCK_BYTES)))
      block[(offset + i) % BLOCK_BYTES] = data[i]!
    }
    if (data.length > 0) node.size = Math.max(node.size, offset + data.length)
  }

  resize(node: Node, size: number): void {
    for (const [fbn, block] of node.blocks) {
      if (fbn * BLOCK_BYTES >= size) node.blocks.delete(fbn)
      else if ((fbn + 1) * BLOCK_BYTES > size) block.fill(0, size % BLOCK_BYTES)
    }
    node.size = size
  }
}

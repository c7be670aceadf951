/**
 * Who may do what, as POSIX has it and NFSv3 servers bend it: the superuser may everything, and the owner of a file may always
 * read and write it, because a client checks at open time, not at each call (RFC 1813, 4.4).
 */
import type { Caller } from '../vfs/vfs.ts'
import type { Inode } from './inode.ts'

export const MAY_READ = 4
export const MAY_WRITE = 2
export const MAY_EXECUTE = 1
export const SET_UID = 0o4000
export const SET_GID = 0o2000
export const STICKY = 0o1000

export function inGroup(caller: Caller, gid: number): boolean {
  return caller.gid === gid || caller.gids.includes(gid)
}

/** True if the mode bits grant all of `wanted`. */
export function may(caller: Caller, inode: Inode, wanted: number): boolean {
  const { mode } = inode
  if (caller.uid === 0) {
    return (wanted & MAY_EXECUTE) === 0 || inode.type === 'DIR' || (mode & 0o111) !== 0
  }
  let bits = mode & 7
  if (caller.uid === inode.uid) bits = (mode >> 6) & 7
  else if (inGroup(caller, inode.gid)) bits = (mode >> 3) & 7
  return (bits & wanted) === wanted
}

export function owns(caller: Caller, inode: Inode): boolean {
  return caller.uid === 0 || caller.uid === inode.uid
}

/** READ: also for the owner, and for who may execute, as execution pages in by READ. */
export function mayReadData(caller: Caller, inode: Inode): boolean {
  return owns(caller, inode) || may(caller, inode, MAY_READ) || may(caller, inode, MAY_EXECUTE)
}

export function mayWriteData(caller: Caller, inode: Inode): boolean {
  return owns(caller, inode) || may(caller, inode, MAY_WRITE)
}

/** Adding and removing names. */
export function mayChangeNames(caller: Caller, directory: Inode): boolean {
  return may(caller, directory, MAY_WRITE | MAY_EXECUTE)
}

/** In a sticky directory only the owner of it or of the object takes a name away. */
export function stickyForbids(caller: Caller, directory: Inode, object: Inode): boolean {
  return (directory.mode & STICKY) !== 0 && !owns(caller, object) && !owns(caller, directory)
}

/** The bits that a change of content or owner by anyone but the superuser takes away. */
export function withoutSetId(caller: Caller, mode: number): number {
  if (caller.uid === 0) return mode
  // Set-group-id without group execution means something else (mandatory locking) and stays.
  return mode & ~SET_UID & ~((mode & 0o010) !== 0 ? SET_GID : 0)
}

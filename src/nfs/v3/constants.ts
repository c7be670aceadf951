/** NFS version 3 (RFC 1813): program, procedures, status codes and bits, by their names there. */
import type { FileType, Stability, Status } from '../../core/vfs/vfs.ts'

export const NFS_PROGRAM = 100003
export const NFS_V3 = 3

/** By number. */
export const PROCEDURES = [
  'NULL',
  'GETATTR',
  'SETATTR',
  'LOOKUP',
  'ACCESS',
  'READLINK',
  'READ',
  'WRITE',
  'CREATE',
  'MKDIR',
  'SYMLINK',
  'MKNOD',
  'REMOVE',
  'RMDIR',
  'RENAME',
  'LINK',
  'READDIR',
  'READDIRPLUS',
  'FSSTAT',
  'FSINFO',
  'PATHCONF',
  'COMMIT',
] as const
export type ProcedureName = (typeof PROCEDURES)[number]

export const NFS3_OK = 0
/** nfsstat3 */
export const STATUS: Readonly<Record<Status, number>> = {
  PERM: 1,
  NOENT: 2,
  IO: 5,
  NXIO: 6,
  ACCES: 13,
  EXIST: 17,
  XDEV: 18,
  NODEV: 19,
  NOTDIR: 20,
  ISDIR: 21,
  INVAL: 22,
  FBIG: 27,
  NOSPC: 28,
  ROFS: 30,
  MLINK: 31,
  NAMETOOLONG: 63,
  NOTEMPTY: 66,
  DQUOT: 69,
  STALE: 70,
  BADHANDLE: 10001,
  NOT_SYNC: 10002,
  BAD_COOKIE: 10003,
  NOTSUPP: 10004,
  TOOSMALL: 10005,
  SERVERFAULT: 10006,
  BADTYPE: 10007,
  JUKEBOX: 10008,
}
export const STATUS_NAMES: ReadonlyMap<number, Status> = new Map(
  Object.entries(STATUS).map(([name, code]) => [code, name as Status]),
)

/** ftype3 */
export const FTYPE: Readonly<Record<FileType, number>> = {
  REG: 1,
  DIR: 2,
  BLK: 3,
  CHR: 4,
  LNK: 5,
  SOCK: 6,
  FIFO: 7,
}
export const FTYPE_NAMES: readonly (FileType | undefined)[] = [
  undefined,
  'REG',
  'DIR',
  'BLK',
  'CHR',
  'LNK',
  'SOCK',
  'FIFO',
]

/** stable_how */
export const STABLE_HOW: readonly Stability[] = ['UNSTABLE', 'DATA_SYNC', 'FILE_SYNC']
/** createmode3 */
export const CREATE_MODE = ['UNCHECKED', 'GUARDED', 'EXCLUSIVE'] as const

export const NFS3_FHSIZE = 64
export const NFS3_COOKIEVERFSIZE = 8
export const NFS3_CREATEVERFSIZE = 8
export const NFS3_WRITEVERFSIZE = 8

export const ACCESS3_READ = 0x01
export const ACCESS3_LOOKUP = 0x02
export const ACCESS3_MODIFY = 0x04
export const ACCESS3_EXTEND = 0x08
export const ACCESS3_DELETE = 0x10
export const ACCESS3_EXECUTE = 0x20
/** What a read-only export never grants. */
export const ACCESS3_CHANGES = ACCESS3_MODIFY | ACCESS3_EXTEND | ACCESS3_DELETE

/** FSINFO properties: hard links, symbolic links, homogeneous PATHCONF, times can be set. */
export const FSF3_PROPERTIES = 0x01 | 0x02 | 0x08 | 0x10

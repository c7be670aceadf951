/** NFS version 3: the 21 procedures and NULL, by number. */
import type { Procedure } from '../server/call.ts'
import { ACCESS } from './access.ts'
import { COMMIT } from './commit.ts'
import { FSINFO, PATHCONF } from './fsinfo.ts'
import { FSSTAT } from './fsstat.ts'
import { GETATTR } from './getattr.ts'
import { LINK } from './link.ts'
import { LOOKUP } from './lookup.ts'
import { CREATE, MKDIR, MKNOD, SYMLINK } from './make.ts'
import { NULL } from './null.ts'
import { READ } from './read.ts'
import { READDIR, READDIRPLUS } from './readdir.ts'
import { READLINK } from './readlink.ts'
import { REMOVE, RMDIR } from './remove.ts'
import { RENAME } from './rename.ts'
import { SETATTR } from './setattr.ts'
import { WRITE } from './write.ts'

/** Results differ by procedure; each is only ever given to its own `encode`. */
export type AnyProcedure = Procedure<unknown>
const erase = <R>(procedure: Procedure<R>): AnyProcedure => procedure

export const NFS_V3_PROCEDURES: readonly AnyProcedure[] = [
  erase(NULL),
  erase(GETATTR),
  erase(SETATTR),
  erase(LOOKUP),
  erase(ACCESS),
  erase(READLINK),
  erase(READ),
  erase(WRITE),
  erase(CREATE),
  erase(MKDIR),
  erase(SYMLINK),
  erase(MKNOD),
  erase(REMOVE),
  erase(RMDIR),
  erase(RENAME),
  erase(LINK),
  erase(READDIR),
  erase(READDIRPLUS),
  erase(FSSTAT),
  erase(FSINFO),
  erase(PATHCONF),
  erase(COMMIT),
]

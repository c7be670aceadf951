/** NULL: does nothing. */
import type { Procedure } from '../server/call.ts'

export const NULL: Procedure<undefined> = {
  name: 'NULL',
  replyBytesMax: 0,
  run: () => undefined,
  encode: () => undefined,
}

/** What the mirrors of one side share with those of the filer, and what a filer reports of them. */
import type { Connection } from '../connection/client.ts'
import type { Env } from '../env/env.ts'
import type { BrokenMirror } from '../mirror/broken-mirror.ts'
import type { SourceLimits } from '../mirror/source-host.ts'
import type { MirrorLink } from './mirror-link.ts'
import type { DesiredMirror, ServedVolumes } from './served-volumes.ts'

export interface MirrorsOptions {
  readonly env: Env
  readonly peers: Readonly<Record<string, Connection>>
  readonly volumes: () => ServedVolumes
  /** Epoch of a side in the vote, and this filer's incarnation. */
  readonly fence: (side: string) => readonly [number, number]
  readonly limits?: Partial<SourceLimits>
  /** Only in tests. */
  readonly broken?: BrokenMirror
}

export interface MirrorsContext {
  readonly options: MirrorsOptions
  readonly link: MirrorLink
  readonly desired: readonly DesiredMirror[]
}

/** All targets. */
import type { Target } from './target.ts'
import { control } from './targets/control.ts'
import { frames } from './targets/frames.ts'
import { image } from './targets/image.ts'
import { log } from './targets/log.ts'
import { manifests } from './targets/manifests.ts'
import { rpc } from './targets/rpc.ts'

export const TARGETS: readonly Target[] = [rpc, log, image, control, frames, manifests]

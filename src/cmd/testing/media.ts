/** Simulated media as files, for the tools that look at devices. */
import { closeSync, mkdirSync, openSync, truncateSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import type { SimMedium } from '../../sim/device.ts'

/** What would be there after a loss of power. */
export function writeMedium(path: string, medium: SimMedium): void {
  mkdirSync(dirname(path), { recursive: true })
  const fd = openSync(path, 'w')
  for (const [block, content] of medium.stable) writeSync(fd, content, 0, content.length, block * 4096)
  closeSync(fd)
  truncateSync(path, medium.blocks * 4096)
}

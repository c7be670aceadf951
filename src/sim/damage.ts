/**
 * What the devices of a pair do wrong with the bytes that they were given: bits rot, writes get lost or land elsewhere though they were answered and
 * flushed, places cannot be read.
 *
 * A pair promises to lose nothing while each block is whole in one of two copies that count. So the damage is kept to one filer (`victim`) until a scrub has
 * mended everything, and made only while both copies of the side count. What happens to the other filer in between is the scenario's: if it
 * is killed, damage that was not mended yet is loss, and no fault of the pair.
 *
 * What is lost, misdirected or unreadable is blocks of groups. Labels and roots only rot, one copy of a label, the newest root.
 */
import { crc32 } from 'node:zlib'
import { ROOT_SLOTS } from '../core/block/layout.ts'
import { decodeRoot } from '../core/block/root.ts'
import type { Root } from '../core/block/root.ts'
import { DeviceError } from '../core/env/device.ts'
import type { SimFaults, SimMedium } from './device.ts'
import type { FilerName, SideName } from './names.ts'
import type { SimRandom } from './world.ts'

/** Blocks in front of the groups, and of a group. */
const DATA_START = 8
const GROUP_STRIDE = 129
/** Misdirected writes land at most so many blocks away. */
const ASTRAY_BLOCKS = 300

function rootIn(medium: SimMedium, slot: number): Root | undefined {
  const bytes = medium.read(slot)
  return bytes === undefined ? undefined : decodeRoot(crc32, bytes)
}

export interface DamageTargets {
  readonly random: SimRandom
  /** Both copies of the side count. */
  mirrored(side: SideName): boolean
  plexes(filer: FilerName): readonly { readonly side: SideName; readonly medium: SimMedium }[]
  logs(filer: FilerName): readonly { readonly side: SideName; readonly medium: SimMedium }[]
}

export class Damage {
  victim: FilerName | undefined
  /** Chances of each block that is written to a plex of the victim. */
  lose = 0
  misdirect = 0
  /** Chance of each write to a log of the victim. */
  loseLog = 0
  /** Faults made so far. */
  made = 0
  readonly #targets: DamageTargets
  readonly #unreadable = new Map<SimMedium, Set<number>>()

  constructor(targets: DamageTargets) {
    this.#targets = targets
  }

  /** The filer that is damaged: the one that is already, while there is one. */
  on(filer: FilerName): FilerName {
    this.victim ??= filer
    return this.victim
  }

  /** No new damage from now on. */
  rest(): void {
    this.lose = 0
    this.misdirect = 0
    this.loseLog = 0
  }

  /** Everything was mended. */
  mended(): void {
    this.rest()
    this.#unreadable.clear()
    this.victim = undefined
  }

  rot(filer: FilerName, count: number): void {
    const victim = this.on(filer)
    for (let n = 0; n < count; n++) {
      const found = this.#pick(this.#targets.plexes(victim), DATA_START)
      if (found === undefined) continue
      found.medium.rot(found.block, this.#targets.random.below(1 << 15))
      this.made += 1
    }
  }

  rotLog(filer: FilerName, count: number): void {
    const victim = this.on(filer)
    for (let n = 0; n < count; n++) {
      const found = this.#pick(this.#targets.logs(victim), 1)
      if (found === undefined) continue
      found.medium.rot(found.block, this.#targets.random.below(1 << 15))
      this.made += 1
    }
  }

  /** The newest root of each of its plexes that count: for a filer that is down. */
  rotRoots(filer: FilerName): void {
    const victim = this.on(filer)
    for (const { side, medium } of this.#targets.plexes(victim)) {
      if (!this.#targets.mirrored(side)) continue
      const roots = ROOT_SLOTS.map((slot) => ({ slot, root: rootIn(medium, slot) }))
        .filter(({ root }) => root !== undefined)
        .sort((one, two) => two.root!.cp - one.root!.cp || two.root!.epoch - one.root!.epoch)
      if (roots.length === 0) continue
      medium.rot(roots[0]!.slot, this.#targets.random.below(1 << 15))
      this.made += 1
    }
  }

  /** One of the two labels of each of its devices. */
  rotLabels(filer: FilerName): void {
    const victim = this.on(filer)
    for (const { medium } of this.#targets.plexes(victim)) {
      const last = this.#targets.random.chance(0.5)
      medium.rot(last ? medium.blocks - 1 : 0, this.#targets.random.below(1 << 15))
      this.made += 1
    }
  }

  /** Places that give EIO until they are written. */
  unreadable(filer: FilerName, count: number): void {
    const victim = this.on(filer)
    for (let n = 0; n < count; n++) {
      const found = this.#pick(this.#targets.plexes(victim), DATA_START)
      if (found === undefined) continue
      const places = this.#unreadable.get(found.medium) ?? new Set()
      places.add(found.block)
      this.#unreadable.set(found.medium, places)
      this.made += 1
    }
  }

  plexFaults(filer: FilerName, side: SideName, medium: SimMedium): Pick<SimFaults, 'onBlock' | 'onRead'> {
    return {
      onBlock: (block) => {
        const bad = this.#unreadable.get(medium)
        bad?.delete(block)
        if (block < DATA_START || block >= medium.blocks - 1 || !this.#strikes(filer, side)) return undefined
        if (this.lose > 0 && this.#targets.random.chance(this.lose)) return this.#struck('LOST')
        if (this.misdirect > 0 && this.#targets.random.chance(this.misdirect)) {
          const astray = block + 1 + this.#targets.random.below(ASTRAY_BLOCKS)
          const to = this.#targets.random.chance(0.5) ? astray : block + GROUP_STRIDE
          return this.#struck(to < medium.blocks - 1 ? to : DATA_START)
        }
        return undefined
      },
      onRead: (block, blocks) => {
        const bad = this.#unreadable.get(medium)
        for (let b = block; bad !== undefined && b < block + blocks; b++) {
          if (bad.has(b)) throw new DeviceError('EIO', `${medium.name}: block ${b} cannot be read`)
        }
      },
    }
  }

  logFaults(filer: FilerName, side: SideName): Pick<SimFaults, 'onWrite'> {
    return {
      onWrite: () => {
        if (this.loseLog === 0 || !this.#strikes(filer, side)) return undefined
        if (!this.#targets.random.chance(this.loseLog)) return undefined
        this.made += 1
        return false
      },
    }
  }

  #strikes(filer: FilerName, side: SideName): boolean {
    return this.victim === filer && this.#targets.mirrored(side)
  }

  #struck<T>(fate: T): T {
    this.made += 1
    return fate
  }

  /** A block that holds something. */
  #pick(
    media: readonly { readonly side: SideName; readonly medium: SimMedium }[],
    from: number,
  ): { readonly medium: SimMedium; readonly block: number } | undefined {
    const { random } = this.#targets
    const counting = media.filter(({ side }) => this.#targets.mirrored(side))
    if (counting.length === 0) return undefined
    const { medium } = random.pick(counting)
    const blocks = [...medium.stable.keys()].filter((block) => block >= from && block < medium.blocks - 1)
    return blocks.length === 0 ? undefined : { medium, block: random.pick(blocks) }
  }
}

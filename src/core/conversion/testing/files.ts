/** Files of all sizes at whose borders trees change, and changes of them. */
import type { ConversionBed } from './bed.ts'

/** Blocks of files at whose borders fan-outs change, old and new: 20, 10, 682, 341, and products. */
export const BORDERS = [0, 1, 10, 11, 20, 21, 341, 342, 682, 683, 3410, 3411, 13640, 13641, 10 * 341 ** 2 + 1]

export async function filled(bed: ConversionBed): Promise<void> {
  await bed.format()
  for (const blocks of BORDERS) {
    const name = `f${blocks}`
    if (blocks > 0 && blocks <= 21) for (let fbn = 0; fbn < blocks; fbn++) await bed.write(name, fbn, 1)
    else for (const fbn of BORDERS.filter((border) => border < blocks)) await bed.write(name, fbn, 1)
    if (blocks > 0) await bed.write(name, blocks - 1, 1)
  }
}

export const writesOf = (bed: ConversionBed): number =>
  bed.oldMedia.flat().reduce((sum, medium) => sum + medium.blocksWritten, 0)

/** Writes, cuts, removals at random; `between` comes between two of them. */
export async function changes(
  bed: ConversionBed,
  count: number,
  between: () => Promise<void>,
): Promise<void> {
  for (let i = 0; i < count; i++) {
    const names = [...bed.model.keys()]
    const name = names[bed.random.u32() % names.length]!
    const fbn = BORDERS[bed.random.u32() % BORDERS.length]! + (bed.random.u32() % 3)
    const what = bed.random.u32() % 10
    if (what < 6) await bed.write(name, fbn, 10 + i)
    else if (what < 8) await bed.truncate(name, fbn)
    else if (what === 8 && names.length > 5) await bed.remove(name)
    else await bed.write(`new${i}`, fbn, 10 + i)
    await between()
    if (bed.random.u32() % 25 === 0) await bed.consistencyPoint()
  }
}

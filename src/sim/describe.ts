/** How the sides of a simulated pair stand, with what its filers said last: for people who look at a failed run. */
import type { FilerPair } from './filer-pair.ts'
import { FILERS } from './names.ts'

/** How everything stands: for a failed run. */
export function describePair(pair: FilerPair, lines = 40): string {
  const log = pair.world.lines
    .slice(-lines)
    .map((line) => `${line.at.toFixed(1)} ${line.process} ${line.event} ${JSON.stringify(line.fields ?? {})}`)
  const sides = FILERS.flatMap((name) =>
    FILERS.map((side) => {
      const one = pair.running[name]?.filer?.pair.sides.get(side)
      if (!one) return `${name}: down`
      const { owner, record, decision, mail, resync } = one
      const facts = {
        record,
        state: mail.state,
        serving: one.serving,
        decision,
        resync,
        waiting: owner?.waiting,
        cp: owner?.cpRunning,
        last: owner?.log.lastSeq,
        durable: owner?.log.durable,
      }
      return `${name} side ${side}: ${JSON.stringify(facts)}`
    }),
  )
  return [...log, ...sides, `vote ${JSON.stringify(pair.vote.record)}`].join('\n')
}

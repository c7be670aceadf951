/** The steps of a side, gathered: side.ts runs them and knows none of them. */
import { formatSide } from './format.ts'
import { answerAggregates, answerOffer } from './growth.ts'
import { answerHandOver, handOver } from './hand-over.ts'
import { activateAlone, activateByHello, answerHello, regreet } from './hello.ts'
import { answerResyncEnd, answerResyncStart, runResync } from './resync.ts'
import { answerConfirm } from './opening.ts'
import type { Side } from './side.ts'
import type { SideProcedures } from './side-context.ts'

export const PROCEDURES: SideProcedures<Side> = {
  format: formatSide,
  activateAlone,
  activateByHello,
  regreet,
  runResync,
  handOver,
  answers: {
    hello: answerHello,
    resyncStart: answerResyncStart,
    resyncEnd: answerResyncEnd,
    handover: answerHandOver,
    confirm: answerConfirm,
    offer: answerOffer,
    aggregates: answerAggregates,
    askHandOver: async (side) => ({ type: 'reply', ...(await side.handOver()) }),
  },
}

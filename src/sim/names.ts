/** The two filers of a simulated pair. A side has the name of the filer whose home it is. */
export const FILERS = ['a', 'b'] as const
export type FilerName = (typeof FILERS)[number]
/** Each filer is the home of one side, which has its name. */
export type SideName = FilerName
export const LINKS = ['one', 'two'] as const
/** The network between pairs. */
export const BETWEEN = 'between'
export const other = (name: FilerName): FilerName => (name === 'a' ? 'b' : 'a')

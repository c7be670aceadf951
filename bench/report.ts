/** From samples to a table: medians, ratios, verdicts; plain text and Markdown. Pure. */
import type { Goal, Measure, Sample } from './measures.ts'
import type { SideName } from './sides.ts'

export interface Outcome {
  measure: Measure
  /** Medians over the rounds; undefined when any round of this side failed. */
  medians: Partial<Record<SideName, Sample>>
  failures: Partial<Record<SideName, string>>
}

export interface Row {
  id: string
  title: string
  figure: string
  peer: string
  peerValue: string
  ourValue: string
  ratio: string
  goal: string
  reached: boolean | undefined
}

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export function medianSample(samples: Sample[]): Sample {
  const of = (figure: keyof Sample): number => median(samples.map((sample) => sample[figure]))
  return {
    operationsPerSecond: of('operationsPerSecond'),
    bytesPerSecond: of('bytesPerSecond'),
    p50Microseconds: of('p50Microseconds'),
    p99Microseconds: of('p99Microseconds'),
  }
}

const figureNames: Record<keyof Sample, string> = {
  operationsPerSecond: 'op/s',
  bytesPerSecond: 'MB/s',
  p50Microseconds: 'p50 µs',
  p99Microseconds: 'p99 µs',
}
const peerNames: Record<SideName, string> = { tandem: 'Tandem', ganesha: 'NFS-Ganesha', gluster: 'GlusterFS' }

function show(figure: keyof Sample, sample: Sample | undefined): string {
  if (sample === undefined) return 'failed'
  const value = figure === 'bytesPerSecond' ? sample.bytesPerSecond / 1e6 : sample[figure]
  return Math.round(value).toLocaleString('en-US')
}

export function rowOf(outcome: Outcome, goal: Goal): Row {
  const ours = outcome.medians.tandem
  const theirs = outcome.medians[goal.against]
  // No ratio from half a measurement.
  const ratio =
    ours === undefined || theirs === undefined ? undefined : ours[goal.figure] / theirs[goal.figure]
  const reached =
    ratio === undefined ? undefined : 'min' in goal.ratio ? ratio >= goal.ratio.min : ratio <= goal.ratio.max
  return {
    id: outcome.measure.id,
    title: outcome.measure.title,
    figure: figureNames[goal.figure],
    peer: peerNames[goal.against],
    peerValue: show(goal.figure, theirs),
    ourValue: show(goal.figure, ours),
    ratio: ratio === undefined ? 'refused' : `${ratio.toFixed(2)}×`,
    goal: 'min' in goal.ratio ? `≥ ${goal.ratio.min}×` : `≤ ${goal.ratio.max}×`,
    reached,
  }
}

export const rowsOf = (outcomes: Outcome[]): Row[] =>
  outcomes.flatMap((outcome) => outcome.measure.goals.map((goal) => rowOf(outcome, goal)))

const mark = (reached: boolean | undefined): string => (reached === undefined ? '–' : reached ? 'yes' : 'no')
const cells = (row: Row): string[] => [
  row.id,
  row.title,
  row.figure,
  row.peer,
  row.peerValue,
  row.ourValue,
  row.ratio,
  row.goal,
  mark(row.reached),
]
const heads = ['', 'What', 'Figure', 'Peer', 'Peer', 'Tandem', 'Ratio', 'Goal', 'Reached']

/** A table of its own, about Tandem alone. */
export interface Section {
  readonly title: string
  /** What was done, and how to read the figures: Markdown, one line for each paragraph. */
  readonly notes: readonly string[]
  readonly heads: readonly string[]
  readonly rows: readonly (readonly string[])[]
  /** What came of it, a line each. */
  readonly verdicts: readonly string[]
  /** What must not be: the run fails. */
  readonly failures: readonly string[]
}

export type Say = (text: string) => void

export const whole = (value: number): string => Math.round(value).toLocaleString('en-US')

const line = (values: readonly string[]): string => `| ${values.join(' | ')} |`

export const sectionText = ({ title, heads: own, rows, verdicts }: Section): string =>
  [`${title}`, aligned([own, ...rows]), ...verdicts].join('\n')

const sectionMarkdown = ({ title, notes, heads: own, rows, verdicts }: Section): string =>
  `## ${title}

${notes.join('\n')}

${line(own)}
${line(own.map(() => '---'))}
${rows.map(line).join('\n')}

${verdicts.map((text) => `- ${text}`).join('\n')}
`

export const textTable = (rows: Row[]): string => aligned([heads, ...rows.map(cells)])

export function aligned(table: readonly (readonly string[])[]): string {
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)))
  return table
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export interface Conditions {
  command: string
  rounds: number
  seconds: number
  machine: string
  date: string
  versions: string[]
}

export function markdown(
  rows: Row[],
  sections: readonly Section[],
  failures: string[],
  conditions: Conditions,
): string {
  return `# Measured beside NFS-Ganesha and GlusterFS

Written by \`${conditions.command}\` on ${conditions.date}: ${conditions.machine}; medians of ${conditions.rounds} rounds of ${conditions.seconds} s
after a warm-up, the sides in turn within each round. ${conditions.versions.join(', ')}. Compare ratios: absolute figures are this machine's.

${line(heads)}
${line(heads.map(() => '---'))}
${rows.map((row) => line(cells(row))).join('\n')}
${failures.length === 0 ? '' : `\nFailed, so no ratio was made:\n\n${failures.map((text) => `- ${text}`).join('\n')}\n`}
## What is compared

- **Tandem**: a pair in embedded mode; every write is in both filers' logs, each flushed to disk, before it is answered. Both filers,
  both peers and the load share this machine's processors.
- **NFS-Ganesha**: one copy, on a folder of the same disk. Stable writes are flushed; CREATE and REMOVE are answered before they are durable.
- **GlusterFS**: replica 2, each brick on the same disk, through its FUSE client with O_DIRECT and O_SYNC (fio).
- The NFS servers are loaded by [\`bench/nfsbench.c\`](../bench/nfsbench.c): raw NFSv3 calls in a closed loop, no client cache. Every read is checked
  for the right content, a sample of what was written is read back; a side that fails or answers wrongly gets no ratio.
- \`make bench\` is the short form (it shows that the comparison runs); \`make bench BENCH=long\` writes this file.

${sections.map(sectionMarkdown).join('\n')}`
}

/** Counts what a part of `make test` reported, and lays out the table. Pure. */

export interface PartResult {
  part: string
  status: number
  seconds: number
  passed: number
  failed: number
}

/**
 * Tests that a part's output tells of: jest's summaries, and lines `…: N passed, N failed`. A part that tells of none counts as
 * one; a part that ended badly has at least one failure, whatever it said.
 */
export function count(output: string, status: number): { passed: number; failed: number } {
  // Terminals' colours would hide the words.
  const text = output.replace(/\u001b\[[0-9;]*m/g, '')
  let passed = 0
  let failed = 0
  let told = false
  for (const line of text.split('\n')) {
    const jest = /^Tests:\s+(.*)\btotal$/.exec(line)
    const own = /^\w+: (\d+ passed, \d+ failed)$/.exec(line)
    const summary = jest?.[1] ?? own?.[1]
    if (summary === undefined) continue
    told = true
    passed += Number(/(\d+) passed/.exec(summary)?.[1] ?? 0)
    failed += Number(/(\d+) failed/.exec(summary)?.[1] ?? 0)
  }
  if (!told && status === 0) passed = 1
  if (status !== 0 && failed === 0) failed = 1
  return { passed, failed }
}

export function table(results: PartResult[]): string {
  const rows = results.map((result) => [
    result.part,
    result.status === 0 ? 'passed' : 'FAILED',
    String(result.passed),
    String(result.failed),
    result.seconds.toFixed(0),
  ])
  const all = [['part', 'result', 'passed', 'failed', 'seconds'], ...rows]
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)))
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** The last line: alone, for machines. */
export function lastLine(results: PartResult[]): string {
  const sum = (figure: 'passed' | 'failed'): number =>
    results.reduce((total, result) => total + result[figure], 0)
  return `${sum('passed')} passed, ${sum('failed')} failed`
}

/** A scenario as a list of steps with a name, a time and a finding; the first failure ends it. Prints each as it happens. */
export class Steps {
  readonly #began = performance.now()
  readonly #rows: { name: string; passed: boolean; seconds: number; finding: string }[] = []

  get seconds(): number {
    return (performance.now() - this.#began) / 1000
  }

  get failed(): number {
    return this.#rows.filter((row) => !row.passed).length
  }

  /** Runs a step; what it returns is its finding, shown in the table. */
  async step(name: string, body: () => Promise<string | void>): Promise<void> {
    const started = performance.now()
    const add = (passed: boolean, finding: string): void => {
      const seconds = (performance.now() - started) / 1000
      this.#rows.push({ name, passed, seconds, finding })
      console.log(
        `${this.seconds.toFixed(0).padStart(4)} s  ${passed ? 'ok    ' : 'FAILED'} ${name}${finding === '' ? '' : `: ${finding}`}`,
      )
    }
    try {
      add(true, (await body()) ?? '')
    } catch (error) {
      add(false, error instanceof Error ? error.message : String(error))
      throw error
    }
  }

  table(): string {
    const width = Math.max(...this.#rows.map((row) => row.name.length))
    return this.#rows
      .map(
        (row) =>
          `${row.passed ? 'ok    ' : 'FAILED'}  ${row.name.padEnd(width)}  ${row.seconds.toFixed(1).padStart(6)} s  ${row.finding.split('\n')[0]}`,
      )
      .join('\n')
  }

  summary(name: string): string {
    return `${name}: ${this.#rows.length - this.failed} passed, ${this.failed} failed`
  }
}

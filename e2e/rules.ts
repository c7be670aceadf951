/**
 * The alerts (charts/tandem/rules) in the hands of promtool: the file is one that Prometheus reads, and each alert is told at the metrics
 * that mean it and not at others. Part of `make api`; by itself: node e2e/rules.ts.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { ALERTS, RUNBOOKS } from '../src/operator/install/alerts.ts'
import { CASES } from './alert-cases.ts'
import { attempt } from './lib/process.ts'
import { endFolder, stateFolder, sweep } from './lib/state.ts'

const rules = join(import.meta.dirname, '../charts/tandem/rules/tandem.yaml')

function tests(): unknown {
  return {
    rule_files: [rules],
    evaluation_interval: '1m',
    tests: CASES.map(({ alert, at, series, told }) => {
      const { severity } = ALERTS.find(({ name }) => name === alert)!
      return {
        interval: '1m',
        input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
        alert_rule_test: [
          {
            alertname: alert,
            eval_time: `${at}m`,
            exp_alerts: told
              ? [
                  {
                    exp_labels: { severity, ...told.labels },
                    exp_annotations: {
                      summary: told.summary,
                      runbook_url: `${RUNBOOKS}#${alert.toLowerCase()}`,
                    },
                  },
                ]
              : [],
          },
        ],
      }
    }),
  }
}

/** What is wrong, a line each. */
function uncovered(): string[] {
  const has = (name: string, told: boolean): boolean =>
    CASES.some((c) => c.alert === name && (c.told !== undefined) === told)
  return ALERTS.flatMap(({ name }) => [
    ...(has(name, true) ? [] : [`${name}: no case in which it is told`]),
    ...(has(name, false) ? [] : [`${name}: no case in which it is not told`]),
  ])
}

/** True if everything is as it should be. */
export async function checkRules(): Promise<boolean> {
  await sweep('rules')
  const folder = stateFolder('rules')
  try {
    const file = join(folder, 'tests.yaml')
    writeFileSync(file, stringify(tests()))
    const problems = uncovered()
    for (const command of [
      ['promtool', 'check', 'rules', rules],
      ['promtool', 'test', 'rules', file],
    ]) {
      const { status, stdout, stderr } = await attempt(command)
      if (status !== 0) problems.push(`${command.slice(0, 3).join(' ')}:\n${stdout}${stderr}`)
    }
    for (const problem of problems) console.log(`FAILED ${problem}`)
    if (problems.length === 0) console.log(`ok     ${ALERTS.length} alerts in ${CASES.length} cases`)
    return problems.length === 0
  } finally {
    endFolder(folder, false)
  }
}

if (import.meta.main) process.exitCode = (await checkRules()) ? 0 : 1

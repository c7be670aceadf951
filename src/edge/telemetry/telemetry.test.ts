import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from '@jest/globals'
import { METRICS, metricsMarkdown } from './catalogue.ts'
import { WatchServer } from './http-server.ts'
import { Telemetry, setState } from './telemetry.ts'

describe('telemetry', () => {
  test('counters, gauges and histograms come out in the Prometheus text format', async () => {
    const telemetry = new Telemetry({ process: false })
    telemetry.add('tandem_nfs_errors_total', 2, { procedure: 'LOOKUP', status: 'NOENT' })
    telemetry.add('tandem_nfs_errors_total', 1, { status: 'NOENT', procedure: 'LOOKUP' })
    telemetry.set('tandem_nfs_connections', 7)
    const labels = { procedure: 'READ' }
    telemetry.observe('tandem_nfs_operation_duration_seconds', 0.000_02, labels)
    telemetry.observe('tandem_nfs_operation_duration_seconds', 0.5, labels, 3)
    telemetry.observe('tandem_nfs_operation_duration_seconds', 100, labels)
    const lines = (await telemetry.text()).split('\n')
    expect(lines).toContain('# TYPE tandem_nfs_operation_duration_seconds histogram')
    expect(lines).toContain('tandem_nfs_errors_total{procedure="LOOKUP",status="NOENT"} 3')
    expect(lines).toContain('tandem_nfs_connections 7')
    expect(lines).toContain('tandem_nfs_written_bytes_total 0')
    expect(lines).toContain('tandem_nfs_operation_duration_seconds_bucket{procedure="READ",le="0.000025"} 1')
    expect(lines).toContain('tandem_nfs_operation_duration_seconds_bucket{procedure="READ",le="0.5"} 4')
    expect(lines).toContain('tandem_nfs_operation_duration_seconds_bucket{procedure="READ",le="+Inf"} 5')
    expect(lines).toContain('tandem_nfs_operation_duration_seconds_count{procedure="READ"} 5')
  })

  test('what the catalogue does not declare is a bug', () => {
    const telemetry = new Telemetry({ process: false })
    expect(() => telemetry.add('tandem_invented_total')).toThrow('not in the catalogue')
    expect(() => telemetry.set('tandem_nfs_errors_total', 1)).toThrow('is a counter')
    expect(() => telemetry.add('tandem_nfs_errors_total', 1, { procedure: 'READ' })).toThrow('has the labels')
    expect(() => setState(telemetry, 'tandem_nfs_connections', 'Up')).toThrow('has no state')
  })

  test('names carry prefix and unit, counters end in _total, states have a label', () => {
    for (const { name, type, labels = [], buckets, states } of METRICS.values()) {
      expect(name).toMatch(/^tandem_[a-z0-9_]+$/)
      expect(name.endsWith('_total')).toBe(type === 'counter')
      expect(type === 'histogram').toBe(buckets !== undefined)
      expect([...(buckets ?? [])].sort((a, b) => a - b)).toEqual(buckets ?? [])
      if (states) expect(labels).toContain('state')
      expect(metricsMarkdown()).toContain(`\`${name}\``)
    }
  })

  test('the source counts nothing undeclared, and declares nothing that it never counts', () => {
    const root = join(import.meta.dirname, '../..')
    const used = new Set<string>()
    for (const file of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts') || file.endsWith('.test.ts') || file.endsWith('catalogue.ts')) continue
      for (const [, name] of readFileSync(join(root, file), 'utf8').matchAll(
        /'(tandem_[a-z0-9_]*[a-z0-9])'/g,
      ))
        used.add(name!.replace(/_(bucket|count|sum)$/, ''))
    }
    expect([...used].filter((name) => !METRICS.has(name))).toEqual([])
    expect([...METRICS.keys()].filter((name) => !used.has(name))).toEqual([])
  })

  test('HTTP: metrics, live, ready', async () => {
    let ready = false
    const server = new WatchServer({
      metrics: () => new Telemetry({ process: true }).text(),
      alive: () => ({ ok: true, message: 'ok' }),
      ready: () => ({ ok: ready, message: ready ? 'ok' : 'partner is down' }),
    })
    const base = `http://127.0.0.1:${await server.listen(0, '127.0.0.1')}`
    try {
      const metrics = await fetch(`${base}/metrics`)
      expect(metrics.headers.get('content-type')).toContain('version=0.0.4')
      expect(await metrics.text()).toContain('tandem_process_cpu_seconds_total')
      expect((await fetch(`${base}/livez`)).status).toBe(200)
      const notReady = await fetch(`${base}/readyz`)
      expect([notReady.status, await notReady.text()]).toEqual([503, 'partner is down\n'])
      ready = true
      expect((await fetch(`${base}/readyz`)).status).toBe(200)
      expect((await fetch(`${base}/other`)).status).toBe(404)
      expect((await fetch(`${base}/metrics`, { method: 'POST' })).status).toBe(405)
    } finally {
      server.close()
    }
  })
})

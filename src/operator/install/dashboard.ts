/** The first Grafana dashboard: is everybody served and redundant, how fast, and what the networks between the filers do. */
interface Panel {
  readonly title: string
  readonly unit: string
  readonly queries: readonly (readonly [expression: string, legend: string])[]
  readonly type?: 'timeseries' | 'stat'
}

const of = (metric: string): string => `${metric}{namespace=~"$namespace",pod=~"$pod"}`
const rate = (metric: string): string => `rate(${of(metric)}[$__rate_interval])`
const quantile = (q: number, metric: string, by: string): string =>
  `histogram_quantile(${q}, sum by (le, ${by}) (${rate(`${metric}_bucket`)}))`

const rows: readonly (readonly Panel[])[] = [
  [
    {
      title: 'Sides served',
      unit: 'none',
      type: 'stat',
      queries: [[`sum(${of('tandem_side_serving')})`, 'served']],
    },
    {
      title: 'Sides not mirrored',
      unit: 'none',
      type: 'stat',
      queries: [[`sum(1 - ${of('tandem_side_mirrored')})`, 'not mirrored']],
    },
    {
      title: 'Takeovers in the last day',
      unit: 'none',
      type: 'stat',
      queries: [[`sum(increase(${of('tandem_takeovers_total')}[1d]))`, 'takeovers']],
    },
  ],
  [
    {
      title: 'Operations',
      unit: 'ops',
      queries: [
        [`sum by (procedure) (${rate('tandem_nfs_operation_duration_seconds_count')})`, '{{procedure}}'],
      ],
    },
    {
      title: 'Time to answer, 99th percentile',
      unit: 's',
      queries: [[quantile(0.99, 'tandem_nfs_operation_duration_seconds', 'procedure'), '{{procedure}}']],
    },
    {
      title: 'Bytes',
      unit: 'Bps',
      queries: [
        [`sum by (pod) (${rate('tandem_nfs_read_bytes_total')})`, '{{pod}} read'],
        [`sum by (pod) (${rate('tandem_nfs_written_bytes_total')})`, '{{pod}} written'],
      ],
    },
  ],
  [
    {
      title: 'Log: time until durable on both filers, 99th percentile',
      unit: 's',
      queries: [[quantile(0.99, 'tandem_log_commit_seconds', 'pod'), '{{pod}}']],
    },
    {
      title: 'Consistency points, 99th percentile',
      unit: 's',
      queries: [[quantile(0.99, 'tandem_cp_seconds', 'pod'), '{{pod}}']],
    },
    {
      title: 'Resync',
      unit: 'percent',
      queries: [[of('tandem_resync_percent'), '{{pod}} {{side}}']],
    },
  ],
  [
    {
      title: 'Interconnects up',
      unit: 'none',
      queries: [[of('tandem_interconnect_up'), '{{pod}} {{link}}']],
    },
    {
      title: 'Round trip',
      unit: 's',
      queries: [[of('tandem_interconnect_round_trip_seconds'), '{{pod}} {{link}}']],
    },
    {
      title: 'Pause that clients saw, 99th percentile',
      unit: 's',
      queries: [[quantile(0.99, 'tandem_client_pause_seconds', 'side'), 'filer {{side}}']],
    },
  ],
  [
    {
      title: 'Mirrors not in sync',
      unit: 'none',
      queries: [
        [
          'max by (object_namespace, object) (1 - tandem_operator_condition{kind="Mirror",condition="InSync",object_namespace=~"$namespace"})',
          '{{object}}',
        ],
      ],
    },
    {
      title: 'Mirrors: how far behind',
      unit: 's',
      queries: [[`max by (volume) (${of('tandem_mirror_lag_seconds')})`, '{{volume}}']],
    },
    {
      title: 'Mirrors: log files, and how many there may be',
      unit: 'none',
      queries: [
        [`max by (volume) (${of('tandem_mirror_log_files')})`, '{{volume}}'],
        [`max by (volume) (${of('tandem_mirror_log_files_max')})`, '{{volume}} may be'],
      ],
    },
  ],
  [
    {
      title: 'Conversions: metadata built',
      unit: 'percentunit',
      queries: [
        [
          `${of('tandem_conversion_inodes_done')} / (${of('tandem_conversion_inodes')} > 0)`,
          '{{volume}} into {{aggregate}}',
        ],
      ],
    },
    {
      title: 'Conversions: bytes of metadata written, and estimated',
      unit: 'bytes',
      queries: [
        [of('tandem_conversion_metadata_bytes'), '{{volume}} written'],
        [of('tandem_conversion_metadata_estimated_bytes'), '{{volume}} estimated'],
      ],
    },
    {
      title: 'Conversions: blocks of data copied',
      unit: 'none',
      queries: [[of('tandem_conversion_data_blocks_copied'), '{{volume}}']],
    },
  ],
]

export function dashboard(): Record<string, unknown> {
  const datasource = { type: 'prometheus', uid: '${datasource}' }
  return {
    title: 'Tandem',
    uid: 'tandem',
    tags: ['tandem'],
    schemaVersion: 39,
    editable: true,
    refresh: '30s',
    time: { from: 'now-3h', to: 'now' },
    templating: {
      list: [
        { name: 'datasource', type: 'datasource', query: 'prometheus' },
        variable('namespace', 'label_values(tandem_side_serving, namespace)', datasource),
        variable('pod', 'label_values(tandem_side_serving{namespace=~"$namespace"}, pod)', datasource),
      ],
    },
    panels: rows.flatMap((row, y) =>
      row.map((panel, x) => ({
        id: y * 10 + x + 1,
        title: panel.title,
        type: panel.type ?? 'timeseries',
        datasource,
        gridPos: { x: x * 8, y: y * 8, w: 8, h: 8 },
        fieldConfig: { defaults: { unit: panel.unit, min: 0 }, overrides: [] },
        targets: panel.queries.map(([expr, legendFormat], i) => ({
          refId: String.fromCharCode(65 + i),
          expr,
          legendFormat,
          datasource,
        })),
      })),
    ),
  }
}

function variable(name: string, query: string, datasource: unknown): Record<string, unknown> {
  return {
    name,
    type: 'query',
    query,
    datasource,
    refresh: 2,
    includeAll: true,
    multi: true,
    allValue: '.*',
    current: { text: 'All', value: '$__all' },
  }
}

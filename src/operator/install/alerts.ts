/**
 * What somebody is to be told, as rules of Prometheus; each has a section of its own in docs/runbooks.md. They hold with the labels that
 * the monitors of the chart give every series of a filer: `namespace`, `pod`, `pair`, `filer`.
 *
 * critical: clients wait or data may be lost; somebody is woken. warning: the next fault would be felt; the same day. info: to know.
 */
export interface Alert {
  readonly name: string
  readonly severity: 'critical' | 'warning' | 'info'
  readonly expr: string
  readonly for: string
  /** One sentence with the labels of the series. */
  readonly summary: string
}

const SIDE = 'namespace, pair, side'
const PAIR = '{{ $labels.namespace }}/{{ $labels.pair }}'
const POD = '{{ $labels.namespace }}/{{ $labels.pod }}'

/**
 * True for `window` after a counter rose. A series of a counter with labels begins with its first event, which `increase` does not see.
 */
const rose = (series: string, window: string): string =>
  `increase(${series}[${window}]) > 0 or (${series} > 0 unless ${series} offset ${window})`

const p99 = (metric: string): string =>
  `histogram_quantile(0.99, sum by (le, namespace, pod) (rate(${metric}_bucket[5m])))`

/** Takeovers in which clients waited longer than so many seconds (a bucket's bound). */
const pausesBeyond = (seconds: number, offset = ''): string =>
  `tandem_client_pause_seconds_count${offset} - ignoring (le) tandem_client_pause_seconds_bucket{le="${seconds}"}${offset}`

/** A condition that does not hold, whatever the reason is at the moment. */
const fails = (selector: string): string =>
  `max by (kind, object_namespace, object) (tandem_operator_condition{${selector}}) == 0`
const condition = (kind: string, type: string): string => fails(`kind="${kind}",condition="${type}"`)
const OBJECT = '{{ $labels.object_namespace }}/{{ $labels.object }}'

export const ALERTS: readonly Alert[] = [
  {
    name: 'TandemSideNotServed',
    severity: 'critical',
    expr: `max by (${SIDE}) (tandem_side_serving) == 0`,
    for: '1m',
    summary: `Nobody serves the volumes of filer {{ $labels.side }} of pair ${PAIR}.`,
  },
  {
    name: 'TandemPairNotReady',
    severity: 'critical',
    expr: fails('kind="FilerPair",condition="Ready",reason!~"Stopping|Stopped"'),
    for: '5m',
    summary: `Pair ${OBJECT} does not serve every volume.`,
  },
  {
    name: 'TandemVolumeNotReady',
    severity: 'warning',
    expr: condition('FilerVolume', 'Ready'),
    for: '10m',
    summary: `Volume ${OBJECT} is not served.`,
  },
  {
    name: 'TandemSideNotMirrored',
    severity: 'warning',
    expr: `min by (${SIDE}) (tandem_side_mirrored) == 0`,
    for: '30m',
    summary: `Filer {{ $labels.side }} of pair ${PAIR} has one complete copy only.`,
  },
  {
    name: 'TandemTakeoverNotPossible',
    severity: 'warning',
    expr: condition('FilerPair', 'TakeoverPossible'),
    for: '30m',
    summary: `A filer of pair ${OBJECT} could not take over now.`,
  },
  {
    name: 'TandemTookOver',
    severity: 'info',
    expr: `sum by (${SIDE}, reason) (${rose('tandem_takeovers_total{reason!="Planned"}', '15m')}) > 0`,
    for: '0m',
    summary: `The partner took over filer {{ $labels.side }} of pair ${PAIR}: {{ $labels.reason }}.`,
  },
  {
    name: 'TandemServedAway',
    severity: 'info',
    expr: 'sum by (namespace, pair, pod) (tandem_side_serving) > 1',
    for: '1h',
    summary: `Pod ${POD} serves both filers of the pair.`,
  },
  {
    name: 'TandemClientPauseLong',
    severity: 'warning',
    expr: `sum by (${SIDE}) (${pausesBeyond(3)} > (${pausesBeyond(3, ' offset 1h')} or 0 * tandem_client_pause_seconds_count)) > 0`,
    for: '0m',
    summary: `Clients of filer {{ $labels.side }} of pair ${PAIR} waited longer than 3 s in a takeover.`,
  },
  {
    name: 'TandemNoLink',
    severity: 'critical',
    expr: 'max by (namespace, pair, pod, peer) (tandem_interconnect_up) == 0',
    for: '2m',
    summary: `Pod ${POD} reaches {{ $labels.peer }} over no interconnect.`,
  },
  {
    name: 'TandemLinkDown',
    severity: 'warning',
    expr: 'tandem_interconnect_up == 0',
    for: '5m',
    summary: `Interconnect {{ $labels.link }} from pod ${POD} to {{ $labels.peer }} is down.`,
  },
  {
    name: 'TandemLinkSlow',
    severity: 'warning',
    expr: 'tandem_interconnect_state{state="Slow"} == 1',
    for: '15m',
    summary: `Interconnect {{ $labels.link }} from pod ${POD} to {{ $labels.peer }} is much slower than the others.`,
  },
  {
    name: 'TandemLinkFlapping',
    severity: 'warning',
    expr: 'increase(tandem_interconnect_failures_total[15m]) > 5',
    for: '0m',
    summary: `Interconnect {{ $labels.link }} from pod ${POD} to {{ $labels.peer }} comes and goes.`,
  },
  {
    name: 'TandemBlocksUnrepairable',
    severity: 'critical',
    expr: 'increase(tandem_blocks_unrepairable_total[1h]) > 0',
    for: '0m',
    summary: `Pod ${POD} found blocks that neither copy has whole: reading them is an error.`,
  },
  {
    name: 'TandemBlocksDamaged',
    severity: 'warning',
    expr: rose('tandem_blocks_damaged_total', '1h'),
    for: '0m',
    summary: `Pod ${POD} read damaged blocks of plex {{ $labels.plex }}.`,
  },
  {
    name: 'TandemScrubOverdue',
    severity: 'warning',
    expr: 'sum by (namespace, pair, pod, aggregate) (increase(tandem_scrub_blocks_total[1d])) == 0 and on (namespace, pod, aggregate) tandem_aggregate_used_bytes > 0 and on (namespace, pod, aggregate) tandem_aggregate_used_bytes offset 1d > 0',
    for: '1h',
    summary: `Pod ${POD} has read nothing of aggregate {{ $labels.aggregate }} to prove it for a day.`,
  },
  {
    name: 'TandemAggregateFull',
    severity: 'critical',
    expr: 'tandem_aggregate_used_bytes / (tandem_aggregate_size_bytes > 0) > 0.95',
    for: '5m',
    summary: `Aggregate {{ $labels.aggregate }} of pair ${PAIR} is {{ $value | humanizePercentage }} full.`,
  },
  {
    name: 'TandemAggregateFilling',
    severity: 'warning',
    expr: 'tandem_aggregate_used_bytes / (tandem_aggregate_size_bytes > 0) > 0.85',
    for: '30m',
    summary: `Aggregate {{ $labels.aggregate }} of pair ${PAIR} is {{ $value | humanizePercentage }} full.`,
  },
  {
    name: 'TandemVolumeFull',
    severity: 'warning',
    expr: '(tandem_volume_used_bytes + tandem_snapshot_held_bytes) / (tandem_volume_size_bytes > 0) > 0.95',
    for: '5m',
    summary: `Volume {{ $labels.volume }} of pair ${PAIR} is full, its snapshots included.`,
  },
  {
    name: 'TandemSnapshotFailed',
    severity: 'warning',
    expr: rose('tandem_snapshot_failures_total', '1h'),
    for: '0m',
    summary: `Pod ${POD} could not carry out an order about a snapshot ({{ $labels.op }}).`,
  },
  {
    name: 'TandemLogSlow',
    severity: 'warning',
    expr: `${p99('tandem_log_commit_seconds')} > 0.25`,
    for: '10m',
    summary: `Changes at pod ${POD} take long until they are durable on both filers.`,
  },
  {
    name: 'TandemConsistencyPointSlow',
    severity: 'warning',
    expr: `${p99('tandem_cp_seconds')} > 10`,
    for: '15m',
    summary: `Consistency points of pod ${POD} take longer than 10 s.`,
  },
  {
    name: 'TandemFilerBusy',
    severity: 'warning',
    expr: 'tandem_nodejs_eventloop_lag_p99_seconds > 0.2',
    for: '5m',
    summary: `The event loop of pod ${POD} is held up: the partner may take it for dead.`,
  },
  {
    name: 'TandemMirrorOutOfSync',
    severity: 'warning',
    expr: fails('kind="Mirror",condition="InSync",reason!~"Broken|Baseline|NotAccepted|Unknown"'),
    for: '15m',
    summary: `Mirror ${OBJECT} is not in sync: what is acknowledged is not at the destination yet.`,
  },
  {
    name: 'TandemMirrorLagging',
    severity: 'warning',
    expr: 'max by (namespace, pair, volume) (tandem_mirror_lag_seconds{role="Source"}) > 3600',
    for: '10m',
    summary: `The mirror of volume {{ $labels.volume }} of pair ${PAIR} is {{ $value | humanizeDuration }} behind.`,
  },
  {
    name: 'TandemMirrorLogFilesHigh',
    severity: 'warning',
    expr: 'max by (namespace, pair, volume) (tandem_mirror_log_files{role="Source"} / (tandem_mirror_log_files_max{role="Source"} > 0)) > 0.75',
    for: '5m',
    summary: `The destination of volume {{ $labels.volume }} of pair ${PAIR} has used {{ $value | humanizePercentage }} of its log files.`,
  },
  {
    name: 'TandemMirrorWaits',
    severity: 'warning',
    expr: fails('kind="Mirror",condition="Ready",reason=~"WouldDiscardChanges|NotInSync|Failed"'),
    for: '30m',
    summary: `Mirror ${OBJECT} does not go on until somebody decides.`,
  },
  {
    name: 'TandemConversionWaits',
    severity: 'warning',
    expr: fails(
      'kind="Conversion",condition=~"CutOver|Complete|RolledBack",reason=~"Busy|NoSpace|NotRedundant|DeviceError|WouldDiscardChanges|TooLate"',
    ),
    for: '30m',
    summary: `Conversion ${OBJECT} does not go on.`,
  },
  {
    name: 'TandemConversionUnfinished',
    severity: 'info',
    expr: 'sum by (namespace, pair, volume) (tandem_conversion_state{state=~"Scanning|Paused|Joining|RollingBack"}) > 0',
    for: '1d',
    summary: `Volume {{ $labels.volume }} of pair ${PAIR} has been in the middle of a conversion for a day.`,
  },
  {
    name: 'TandemNotAccepted',
    severity: 'warning',
    expr: fails('condition="Accepted"'),
    for: '10m',
    summary: `{{ $labels.kind }} ${OBJECT} asks for what cannot be.`,
  },
  {
    name: 'TandemNotUpToDate',
    severity: 'warning',
    expr: condition('FilerPair', 'UpToDate'),
    for: '6h',
    summary: `Pods of pair ${OBJECT} do not run what is wanted.`,
  },
  {
    name: 'TandemOperatorAbsent',
    severity: 'warning',
    expr: 'absent(tandem_operator_leader == 1)',
    for: '10m',
    summary: 'No operator leads: filers serve and take over, but nothing is made, changed or told.',
  },
  {
    name: 'TandemOperatorFails',
    severity: 'warning',
    expr: 'rate(tandem_operator_failed_passes_total[15m]) > 0.05',
    for: '15m',
    summary: `The operator ${POD} cannot do what it wants to, again and again.`,
  },
]

/** Where alerts point to for what to do. */
export const RUNBOOKS = 'docs/runbooks.md'

/** The rules as Prometheus reads them. */
export function ruleGroups(): Record<string, unknown> {
  return {
    groups: [
      {
        name: 'tandem',
        rules: ALERTS.map(({ name, severity, expr, for: duration, summary }) => ({
          alert: name,
          expr,
          for: duration,
          labels: { severity },
          annotations: { summary, runbook_url: `${RUNBOOKS}#${name.toLowerCase()}` },
        })),
      },
    ],
  }
}

/**
 * Every metric that Tandem exposes, declared once: what is not here cannot be counted (an assertion fails), and docs/metrics.md is made from
 * it. Names begin with `tandem_` and end with their base unit; a state is one series for each value it can have, 1 for the present one and 0
 * for the others, so that it can be summed and alerted on.
 */
import { CHANNEL_STATES, LINK_STATES } from '../../core/connection/meters.ts'
import { CONVERSION_PHASES } from '../../core/filer/conversions-context.ts'
import { MIRROR_STATES } from '../../core/filer/mirror-meters.ts'

export interface MetricSpec {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  /** One sentence, for the reader of a graph. */
  readonly help: string
  /** Every observation carries exactly these. */
  readonly labels?: readonly string[]
  /** Upper bounds of a histogram, in the metric's unit. */
  readonly buckets?: readonly number[]
  /** Values of the label `state`. */
  readonly states?: readonly string[]
}

export interface MetricGroup {
  readonly title: string
  readonly metrics: readonly MetricSpec[]
}

/** From a cache hit to a lost disk: 1-2.5-5 from 10 µs to 10 s. */
const OPERATION_SECONDS = [
  0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
  0.25, 0.5, 1, 2.5, 5, 10,
]
/** Flushes and consistency points. */
const FLUSH_SECONDS = [
  0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
]
/** One block to a long run. */
const WRITE_BYTES = [4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304]
/** What a client notices of a takeover: the promise is 1 s for a dead process and 3 s for a silent network. */
const PAUSE_SECONDS = [0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60]

function traffic(prefix: string, what: string, labels: readonly string[]): MetricSpec[] {
  return (['sent', 'received'] as const).flatMap((way): MetricSpec[] => [
    {
      name: `tandem_${prefix}_${way}_bytes_total`,
      type: 'counter',
      help: `Bytes ${way} over ${what}.`,
      labels,
    },
    {
      name: `tandem_${prefix}_${way}_frames_total`,
      type: 'counter',
      help: `Frames ${way} over ${what}.`,
      labels,
    },
  ])
}

export const CATALOGUE: readonly MetricGroup[] = [
  {
    title: 'NFS',
    metrics: [
      {
        name: 'tandem_nfs_operation_duration_seconds',
        type: 'histogram',
        help: 'Time from the arrival of a call to its reply.',
        labels: ['procedure'],
        buckets: OPERATION_SECONDS,
      },
      {
        name: 'tandem_nfs_errors_total',
        type: 'counter',
        help: 'Calls answered with a status other than OK (many are ordinary, such as NOENT).',
        labels: ['procedure', 'status'],
      },
      { name: 'tandem_nfs_read_bytes_total', type: 'counter', help: 'Bytes of file data given to clients.' },
      {
        name: 'tandem_nfs_written_bytes_total',
        type: 'counter',
        help: 'Bytes of file data taken from clients.',
      },
      { name: 'tandem_nfs_connections', type: 'gauge', help: 'Client connections now.' },
      {
        name: 'tandem_nfs_bad_connections_total',
        type: 'counter',
        help: 'Connections closed because the client broke the protocol.',
      },
    ],
  },
  {
    title: 'Operation log',
    metrics: [
      {
        name: 'tandem_log_flush_seconds',
        type: 'histogram',
        help: 'Time to make a batch of records durable on the own log file.',
        buckets: FLUSH_SECONDS,
      },
      {
        name: 'tandem_log_commit_seconds',
        type: 'histogram',
        help: 'Time to make a batch of records durable wherever it must be, the partner included.',
        buckets: FLUSH_SECONDS,
      },
      { name: 'tandem_log_written_bytes_total', type: 'counter', help: 'Bytes written to the own log file.' },
      { name: 'tandem_log_batches_total', type: 'counter', help: 'Batches of records committed.' },
    ],
  },
  {
    title: 'Consistency points',
    metrics: [
      {
        name: 'tandem_cp_seconds',
        type: 'histogram',
        help: 'Time from the freeze of a consistency point to its roots being durable.',
        buckets: FLUSH_SECONDS,
      },
      { name: 'tandem_cp_total', type: 'counter', help: 'Consistency points completed.' },
      {
        name: 'tandem_cp_blocks_written_total',
        type: 'counter',
        help: 'Blocks written by consistency points, each counted once though it goes to both plexes.',
      },
      {
        name: 'tandem_cp_write_bytes',
        type: 'histogram',
        help: 'Size of one write of a consistency point to one device.',
        buckets: WRITE_BYTES,
      },
    ],
  },
  {
    title: 'Space',
    metrics: [
      {
        name: 'tandem_aggregate_size_bytes',
        type: 'gauge',
        help: 'Bytes that an aggregate which is served here can hold; 0 when it is not.',
        labels: ['aggregate'],
      },
      {
        name: 'tandem_aggregate_used_bytes',
        type: 'gauge',
        help: 'Bytes of an aggregate in use, by files, snapshots and metadata; 0 when it is not served here.',
        labels: ['aggregate'],
      },
      {
        name: 'tandem_volume_size_bytes',
        type: 'gauge',
        help: 'Size of a volume that is served here; 0 when it is not.',
        labels: ['volume'],
      },
      {
        name: 'tandem_volume_used_bytes',
        type: 'gauge',
        help: 'Bytes of the files of a volume, without what only snapshots hold; 0 when it is not served here.',
        labels: ['volume'],
      },
    ],
  },
  {
    title: 'Snapshots',
    metrics: [
      {
        name: 'tandem_snapshots',
        type: 'gauge',
        help: 'Snapshots of a volume that is served here; 0 when it is not.',
        labels: ['volume'],
      },
      {
        name: 'tandem_snapshot_held_bytes',
        type: 'gauge',
        help: 'Bytes of a volume that its files do not have any more, but some snapshot; 0 when it is not served here.',
        labels: ['volume'],
      },
      {
        name: 'tandem_snapshot_orders_total',
        type: 'counter',
        help: 'Snapshots made and deleted and volumes restored, by schedules and by hand.',
        labels: ['op'],
      },
      {
        name: 'tandem_snapshot_failures_total',
        type: 'counter',
        help: 'Orders about snapshots, of schedules and by hand, that could not be carried out.',
        labels: ['op'],
      },
    ],
  },
  {
    title: 'Devices',
    metrics: [
      {
        name: 'tandem_blocks_damaged_total',
        type: 'counter',
        help: 'Blocks whose checksum or context was wrong when read.',
        labels: ['plex'],
      },
      {
        name: 'tandem_blocks_repaired_total',
        type: 'counter',
        help: 'Damaged blocks rewritten from the other plex.',
        labels: ['plex'],
      },
      {
        name: 'tandem_blocks_unrepairable_total',
        type: 'counter',
        help: 'Blocks found that neither plex has as they should be: reading them is an error (EIO) until they are written anew.',
      },
      {
        name: 'tandem_scrub_blocks_total',
        type: 'counter',
        help: 'Blocks in use that the scrub has read on both plexes and compared.',
        labels: ['aggregate'],
      },
      {
        name: 'tandem_scrub_passes_total',
        type: 'counter',
        help: 'Times that the scrub has read everything in use since this filer serves the side.',
        labels: ['aggregate'],
      },
      {
        name: 'tandem_scrub_pass_seconds',
        type: 'gauge',
        help: 'Time that the last whole pass of the scrub took.',
        labels: ['aggregate'],
      },
    ],
  },
  {
    title: 'Interconnects',
    metrics: [
      {
        name: 'tandem_interconnect_state',
        type: 'gauge',
        help: 'What an interconnect does: it is tried (Down), agrees with the partner (Linked), carries channels (Up), only for want of a better one (Slow), or waits to be tried again (Failed).',
        labels: ['peer', 'link', 'state'],
        states: LINK_STATES,
      },
      {
        name: 'tandem_interconnect_up',
        type: 'gauge',
        help: '1 while the interconnect works, slow or not.',
        labels: ['peer', 'link'],
      },
      {
        name: 'tandem_interconnect_round_trip_seconds',
        type: 'gauge',
        help: 'Round trip of the last heartbeats.',
        labels: ['peer', 'link'],
      },
      {
        name: 'tandem_interconnect_sessions_total',
        type: 'counter',
        help: 'Times that an interconnect came up.',
        labels: ['peer', 'link'],
      },
      {
        name: 'tandem_interconnect_failures_total',
        type: 'counter',
        help: 'Times that an interconnect was given up and its channels moved to another.',
        labels: ['peer', 'link'],
      },
      ...traffic('interconnect', 'an interconnect', ['peer', 'link']),
      {
        name: 'tandem_channel_state',
        type: 'gauge',
        help: 'What a channel does: it waits for the other filer or an interconnect (Requested), is made (Opening, Open), carries data (Ready), is made anew (Recovering), ends (Closing), is gone (Closed).',
        labels: ['peer', 'client', 'index', 'state'],
        states: CHANNEL_STATES,
      },
      {
        name: 'tandem_channel_ready',
        type: 'gauge',
        help: '1 while a channel can be used.',
        labels: ['peer', 'client', 'index'],
      },
      {
        name: 'tandem_channel_generation',
        type: 'gauge',
        help: 'Generation of a channel.',
        labels: ['peer', 'client', 'index'],
      },
      {
        name: 'tandem_channel_failovers_total',
        type: 'counter',
        help: 'Times that a channel was made anew on another interconnect.',
        labels: ['peer', 'client', 'index'],
      },
      ...traffic('channel', 'a channel', ['peer', 'client', 'index']),
    ],
  },
  {
    title: 'Pair',
    metrics: [
      {
        name: 'tandem_side_serving',
        type: 'gauge',
        help: '1 while this filer owns the side and answers clients.',
        labels: ['side'],
      },
      {
        name: 'tandem_side_mirrored',
        type: 'gauge',
        help: '1 while the vote says that both copies of the side are complete.',
        labels: ['side'],
      },
      {
        name: 'tandem_side_epoch',
        type: 'gauge',
        help: 'Epoch of the side as this filer knows it.',
        labels: ['side'],
      },
      {
        name: 'tandem_takeovers_total',
        type: 'counter',
        help: 'Times that this filer took a side from the other.',
        labels: ['side', 'reason'],
      },
      {
        name: 'tandem_resync_percent',
        type: 'gauge',
        help: 'Progress of filling the partner; 0 while it is not being filled.',
        labels: ['side'],
      },
      {
        name: 'tandem_client_pause_seconds',
        type: 'histogram',
        help: "Time from the last sign of life of a side's former owner to its first answer here.",
        labels: ['side'],
        buckets: PAUSE_SECONDS,
      },
    ],
  },
  {
    title: 'Mirrors',
    metrics: [
      {
        name: 'tandem_mirror_state',
        type: 'gauge',
        help: 'What a mirror does, as the end sees it that this filer serves; all 0 when it serves neither.',
        labels: ['mirror', 'volume', 'role', 'state'],
        states: MIRROR_STATES,
      },
      {
        name: 'tandem_mirror_lag_seconds',
        type: 'gauge',
        help: 'At a source: age of the oldest change that the destination lacks; 0 in sync.',
        labels: ['mirror', 'volume', 'role'],
      },
      {
        name: 'tandem_mirror_lag_bytes',
        type: 'gauge',
        help: 'At a source: bytes of the operations that the destination lacks; 0 in sync.',
        labels: ['mirror', 'volume', 'role'],
      },
      {
        name: 'tandem_mirror_log_files',
        type: 'gauge',
        help: 'Log files at the destination that its newest image does not cover.',
        labels: ['mirror', 'volume', 'role'],
      },
      {
        name: 'tandem_mirror_log_files_max',
        type: 'gauge',
        help: 'How many log files there may be: at this many, calls on the source wait for a consistency point of the destination.',
        labels: ['mirror', 'volume', 'role'],
      },
      {
        name: 'tandem_mirror_unacknowledged_records',
        type: 'gauge',
        help: 'At a source: operations that the destination has not acknowledged.',
        labels: ['mirror', 'volume', 'role'],
      },
      {
        name: 'tandem_mirror_sent_bytes_total',
        type: 'counter',
        help: 'Bytes of operations and images that a source has sent.',
        labels: ['mirror', 'volume', 'role'],
      },
    ],
  },
  {
    title: 'Conversions',
    metrics: [
      {
        name: 'tandem_conversion_state',
        type: 'gauge',
        help: 'The phase of a conversion whose volume this filer serves; all 0 when it does not.',
        labels: ['volume', 'aggregate', 'state'],
        states: CONVERSION_PHASES,
      },
      {
        name: 'tandem_conversion_inodes',
        type: 'gauge',
        help: 'Files and directories of the volume.',
        labels: ['volume', 'aggregate'],
      },
      {
        name: 'tandem_conversion_inodes_done',
        type: 'gauge',
        help: 'Those whose metadata has been built.',
        labels: ['volume', 'aggregate'],
      },
      {
        name: 'tandem_conversion_absent_blocks',
        type: 'gauge',
        help: 'Blocks of metadata that are still to be built, at most.',
        labels: ['volume', 'aggregate'],
      },
      {
        name: 'tandem_conversion_metadata_bytes',
        type: 'gauge',
        help: 'Bytes of metadata in the new form, maps included: all that the conversion itself writes.',
        labels: ['volume', 'aggregate'],
      },
      {
        name: 'tandem_conversion_metadata_estimated_bytes',
        type: 'gauge',
        help: 'The same as it was estimated by the check.',
        labels: ['volume', 'aggregate'],
      },
      {
        name: 'tandem_conversion_data_blocks_copied',
        type: 'gauge',
        help: 'Blocks of data that the conversion copied: 0.',
        labels: ['volume', 'aggregate'],
      },
      {
        name: 'tandem_conversion_changed_bytes',
        type: 'gauge',
        help: 'Bytes of changes since the cut-over, which going back would lose.',
        labels: ['volume', 'aggregate'],
      },
    ],
  },
  {
    title: 'Operator',
    metrics: [
      {
        name: 'tandem_operator_leader',
        type: 'gauge',
        help: '1 for the operator that leads.',
      },
      {
        name: 'tandem_operator_pass_seconds',
        type: 'histogram',
        help: 'Time of one pass over one pair.',
        buckets: FLUSH_SECONDS,
      },
      {
        name: 'tandem_operator_failed_passes_total',
        type: 'counter',
        help: 'Passes that ended early and are repeated.',
      },
      {
        name: 'tandem_operator_writes_total',
        type: 'counter',
        help: 'Writes to the Kubernetes API, Events aside; none while nothing changes.',
      },
      {
        name: 'tandem_operator_condition',
        type: 'gauge',
        help: '1 while a condition of an object is True, else 0; with the reason that it has now.',
        labels: ['kind', 'object_namespace', 'object', 'condition', 'reason'],
      },
    ],
  },
]

export const METRICS: ReadonlyMap<string, MetricSpec> = new Map(
  CATALOGUE.flatMap(({ metrics }) => metrics).map((metric) => [metric.name, metric]),
)

const cell = (text: string): string => text.replaceAll('|', '\\|')

/** docs/metrics.md */
export function metricsMarkdown(): string {
  const lines = [
    '# Metrics',
    '',
    'Filers and the operator serve these at `/metrics` on port 9400, in the Prometheus text format. Names carry their base unit. A state is',
    "one series for each value of the label `state`: 1 for the present one, 0 for the others. Node's own metrics (memory, event loop, garbage",
    'collection) come along under `tandem_process_` and `tandem_nodejs_`.',
    '',
    'This page is made from `src/edge/telemetry/catalogue.ts`; a metric that is not in it cannot be counted.',
  ]
  for (const { title, metrics } of CATALOGUE) {
    lines.push('', `## ${title}`, '', '| Metric | Type | Labels | Meaning |', '|---|---|---|---|')
    for (const { name, type, labels = [], states, help } of metrics) {
      const named = labels.map((label) =>
        label === 'state' && states
          ? `\`state\` (${states.map((state) => `\`${state}\``).join(', ')})`
          : `\`${label}\``,
      )
      lines.push(`| \`${name}\` | ${type} | ${cell(named.join(', '))} | ${cell(help)} |`)
    }
  }
  return lines.join('\n') + '\n'
}

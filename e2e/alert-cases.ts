/** For every alert: metrics at which it must be told, and metrics near them at which it must not. Values as promtool writes them, one a minute. */
export interface AlertCase {
  readonly alert: string
  /** Minutes after the first value. */
  readonly at: number
  readonly series: Readonly<Record<string, string>>
  /** Labels and sentence of the alert; without them there must be none. */
  readonly told?: { readonly labels: Readonly<Record<string, string>>; readonly summary: string }
}

const A = 'namespace="shop",pair="east",pod="east-a-0",filer="a"'
const B = 'namespace="shop",pair="east",pod="east-b-0",filer="b"'
const POD_A = { namespace: 'shop', pair: 'east', pod: 'east-a-0', filer: 'a' }
const SIDE_A = { namespace: 'shop', pair: 'east', side: 'a' }

/** 0 and 1 of the same gauge at both filers. */
const both = (metric: string, labels: string, a: string, b: string): Record<string, string> => ({
  [`${metric}{${A},${labels}}`]: a,
  [`${metric}{${B},${labels}}`]: b,
})

const condition = (kind: string, object: string, type: string, reason: string, values: string) => ({
  [`tandem_operator_condition{kind="${kind}",object_namespace="shop",object="${object}",condition="${type}",reason="${reason}"}`]:
    values,
})
const about = (kind: string, object: string) => ({ kind, object_namespace: 'shop', object })

/** One bucket over the bound, or under it. */
const histogram = (metric: string, labels: string, bounds: readonly string[], values: readonly string[]) =>
  Object.fromEntries(bounds.map((le, i) => [`${metric}_bucket{${labels},le="${le}"}`, values[i]!]))

const pauses = (count: string, within3: string): Record<string, string> => ({
  [`tandem_client_pause_seconds_count{${B},side="a"}`]: count,
  [`tandem_client_pause_seconds_bucket{${B},side="a",le="3"}`]: within3,
})

export const CASES: readonly AlertCase[] = [
  {
    alert: 'TandemSideNotServed',
    at: 4,
    series: both('tandem_side_serving', 'side="a"', '1 0x10', '0x10'),
    told: { labels: SIDE_A, summary: 'Nobody serves the volumes of filer a of pair shop/east.' },
  },
  // A takeover: the partner serves it a moment later.
  {
    alert: 'TandemSideNotServed',
    at: 4,
    series: both('tandem_side_serving', 'side="a"', '1 0x10', '0 0 1x10'),
  },
  {
    alert: 'TandemPairNotReady',
    at: 7,
    series: {
      ...condition('FilerPair', 'east', 'Ready', 'Starting', '0x3 _x10'),
      ...condition('FilerPair', 'east', 'Ready', 'Unschedulable', '_x3 0x10'),
    },
    told: { labels: about('FilerPair', 'east'), summary: 'Pair shop/east does not serve every volume.' },
  },
  { alert: 'TandemPairNotReady', at: 9, series: condition('FilerPair', 'east', 'Ready', 'Stopped', '0x10') },
  {
    alert: 'TandemVolumeNotReady',
    at: 12,
    series: condition('FilerVolume', 'home', 'Ready', 'NoSpace', '0x20'),
    told: { labels: about('FilerVolume', 'home'), summary: 'Volume shop/home is not served.' },
  },
  {
    alert: 'TandemVolumeNotReady',
    at: 12,
    series: condition('FilerVolume', 'home', 'Ready', 'Ready', '1x20'),
  },
  {
    alert: 'TandemSideNotMirrored',
    at: 35,
    series: both('tandem_side_mirrored', 'side="a"', '0x40', '0x40'),
    told: { labels: SIDE_A, summary: 'Filer a of pair shop/east has one complete copy only.' },
  },
  // A resync of twenty minutes.
  {
    alert: 'TandemSideNotMirrored',
    at: 35,
    series: both('tandem_side_mirrored', 'side="a"', '0x20 1x20', '0x20 1x20'),
  },
  {
    alert: 'TandemTakeoverNotPossible',
    at: 35,
    series: condition('FilerPair', 'east', 'TakeoverPossible', 'VoteUnreachable', '0x40'),
    told: {
      labels: about('FilerPair', 'east'),
      summary: 'A filer of pair shop/east could not take over now.',
    },
  },
  {
    alert: 'TandemTakeoverNotPossible',
    at: 35,
    series: condition('FilerPair', 'east', 'TakeoverPossible', 'TakeoverPossible', '1x40'),
  },
  {
    alert: 'TandemTookOver',
    at: 6,
    series: { [`tandem_takeovers_total{${B},side="a",reason="PartnerSilent"}`]: '_x4 1x40' },
    told: {
      labels: { ...SIDE_A, reason: 'PartnerSilent' },
      summary: 'The partner took over filer a of pair shop/east: PartnerSilent.',
    },
  },
  {
    alert: 'TandemTookOver',
    at: 6,
    series: { [`tandem_takeovers_total{${B},side="a",reason="Planned"}`]: '_x4 1x40' },
  },
  // Long ago.
  {
    alert: 'TandemTookOver',
    at: 30,
    series: { [`tandem_takeovers_total{${B},side="a",reason="PartnerSilent"}`]: '_x4 1x40' },
  },
  {
    alert: 'TandemServedAway',
    at: 65,
    series: {
      [`tandem_side_serving{${B},side="a"}`]: '1x70',
      [`tandem_side_serving{${B},side="b"}`]: '1x70',
    },
    told: {
      labels: { namespace: 'shop', pair: 'east', pod: 'east-b-0' },
      summary: 'Pod shop/east-b-0 serves both filers of the pair.',
    },
  },
  {
    alert: 'TandemServedAway',
    at: 65,
    series: {
      [`tandem_side_serving{${B},side="a"}`]: '0x70',
      [`tandem_side_serving{${B},side="b"}`]: '1x70',
    },
  },
  {
    alert: 'TandemClientPauseLong',
    at: 6,
    series: pauses('_x4 1x20', '_x4 0x20'),
    told: {
      labels: SIDE_A,
      summary: 'Clients of filer a of pair shop/east waited longer than 3 s in a takeover.',
    },
  },
  { alert: 'TandemClientPauseLong', at: 6, series: pauses('_x4 1x20', '_x4 1x20') },
  { alert: 'TandemClientPauseLong', at: 80, series: pauses('_x4 1x90', '_x4 0x90') },
  {
    alert: 'TandemNoLink',
    at: 4,
    series: {
      [`tandem_interconnect_up{${A},peer="b",link="one"}`]: '0x10',
      [`tandem_interconnect_up{${A},peer="b",link="two"}`]: '0x10',
    },
    told: {
      labels: { namespace: 'shop', pair: 'east', pod: 'east-a-0', peer: 'b' },
      summary: 'Pod shop/east-a-0 reaches b over no interconnect.',
    },
  },
  {
    alert: 'TandemNoLink',
    at: 4,
    series: {
      [`tandem_interconnect_up{${A},peer="b",link="one"}`]: '0x10',
      [`tandem_interconnect_up{${A},peer="b",link="two"}`]: '1x10',
    },
  },
  {
    alert: 'TandemLinkDown',
    at: 7,
    series: {
      [`tandem_interconnect_up{${A},peer="b",link="one"}`]: '0x10',
      [`tandem_interconnect_up{${A},peer="b",link="two"}`]: '1x10',
    },
    told: {
      labels: { ...POD_A, peer: 'b', link: 'one' },
      summary: 'Interconnect one from pod shop/east-a-0 to b is down.',
    },
  },
  {
    alert: 'TandemLinkDown',
    at: 7,
    series: { [`tandem_interconnect_up{${A},peer="b",link="one"}`]: '0x3 1x10' },
  },
  {
    alert: 'TandemLinkSlow',
    at: 20,
    series: { [`tandem_interconnect_state{${A},peer="b",link="one",state="Slow"}`]: '1x30' },
    told: {
      labels: { ...POD_A, peer: 'b', link: 'one', state: 'Slow' },
      summary: 'Interconnect one from pod shop/east-a-0 to b is much slower than the others.',
    },
  },
  {
    alert: 'TandemLinkSlow',
    at: 20,
    series: { [`tandem_interconnect_state{${A},peer="b",link="one",state="Up"}`]: '1x30' },
  },
  {
    alert: 'TandemLinkFlapping',
    at: 20,
    series: { [`tandem_interconnect_failures_total{${A},peer="b",link="one"}`]: '0+1x30' },
    told: {
      labels: { ...POD_A, peer: 'b', link: 'one' },
      summary: 'Interconnect one from pod shop/east-a-0 to b comes and goes.',
    },
  },
  {
    alert: 'TandemLinkFlapping',
    at: 20,
    series: { [`tandem_interconnect_failures_total{${A},peer="b",link="one"}`]: '0x10 1x20' },
  },
  {
    alert: 'TandemBlocksUnrepairable',
    at: 12,
    series: { [`tandem_blocks_unrepairable_total{${A}}`]: '0x10 1x20' },
    told: {
      labels: POD_A,
      summary: 'Pod shop/east-a-0 found blocks that neither copy has whole: reading them is an error.',
    },
  },
  {
    alert: 'TandemBlocksUnrepairable',
    at: 12,
    series: { [`tandem_blocks_unrepairable_total{${A}}`]: '0x30' },
  },
  {
    alert: 'TandemBlocksDamaged',
    at: 12,
    series: { [`tandem_blocks_damaged_total{${A},plex="1"}`]: '_x10 1x20' },
    told: { labels: { ...POD_A, plex: '1' }, summary: 'Pod shop/east-a-0 read damaged blocks of plex 1.' },
  },
  {
    alert: 'TandemBlocksDamaged',
    at: 90,
    series: { [`tandem_blocks_damaged_total{${A},plex="1"}`]: '_x10 1x90' },
  },
  {
    alert: 'TandemScrubOverdue',
    at: 1600,
    series: {
      [`tandem_scrub_blocks_total{${A},aggregate="aggr1"}`]: '7x2000',
      [`tandem_aggregate_used_bytes{${A},aggregate="aggr1"}`]: '9x2000',
    },
    told: {
      labels: { namespace: 'shop', pair: 'east', pod: 'east-a-0', aggregate: 'aggr1' },
      summary: 'Pod shop/east-a-0 has read nothing of aggregate aggr1 to prove it for a day.',
    },
  },
  {
    alert: 'TandemScrubOverdue',
    at: 1600,
    series: {
      [`tandem_scrub_blocks_total{${A},aggregate="aggr1"}`]: '7+1x2000',
      [`tandem_aggregate_used_bytes{${A},aggregate="aggr1"}`]: '9x2000',
      // Served by the partner.
      [`tandem_scrub_blocks_total{${B},aggregate="aggr1"}`]: '7x2000',
      [`tandem_aggregate_used_bytes{${B},aggregate="aggr1"}`]: '0x2000',
    },
  },
  ...['Full', 'Filling'].flatMap((name, i): AlertCase[] => {
    const share = [0.96, 0.86][i]!
    const at = [7, 35][i]!
    const series = (used: number): Record<string, string> => ({
      [`tandem_aggregate_used_bytes{${A},aggregate="aggr1"}`]: `${used * 1000}x40`,
      [`tandem_aggregate_size_bytes{${A},aggregate="aggr1"}`]: '1000x40',
      // Served here no more.
      [`tandem_aggregate_used_bytes{${B},aggregate="aggr1"}`]: '0x40',
      [`tandem_aggregate_size_bytes{${B},aggregate="aggr1"}`]: '0x40',
    })
    const summary = `Aggregate aggr1 of pair shop/east is ${share * 100}% full.`
    return [
      {
        alert: `TandemAggregate${name}`,
        at,
        series: series(share),
        told: { labels: { ...POD_A, aggregate: 'aggr1' }, summary },
      },
      { alert: `TandemAggregate${name}`, at, series: series(share - 0.02) },
    ]
  }),
  ...[96, 90].map((used): AlertCase => ({
    alert: 'TandemVolumeFull',
    at: 7,
    series: {
      [`tandem_volume_used_bytes{${A},volume="home"}`]: `${used - 10}x20`,
      [`tandem_snapshot_held_bytes{${A},volume="home"}`]: '10x20',
      [`tandem_volume_size_bytes{${A},volume="home"}`]: '100x20',
    },
    ...(used === 90
      ? {}
      : {
          told: {
            labels: { ...POD_A, volume: 'home' },
            summary: 'Volume home of pair shop/east is full, its snapshots included.',
          },
        }),
  })),
  {
    alert: 'TandemSnapshotFailed',
    at: 12,
    series: { [`tandem_snapshot_failures_total{${A},op="Create"}`]: '_x10 1x20' },
    told: {
      labels: { ...POD_A, op: 'Create' },
      summary: 'Pod shop/east-a-0 could not carry out an order about a snapshot (Create).',
    },
  },
  {
    alert: 'TandemSnapshotFailed',
    at: 90,
    series: { [`tandem_snapshot_failures_total{${A},op="Create"}`]: '_x10 1x90' },
  },
  {
    alert: 'TandemLogSlow',
    at: 20,
    series: histogram(
      'tandem_log_commit_seconds',
      A,
      ['0.25', '0.5', '+Inf'],
      ['0+1x30', '0+60x30', '0+60x30'],
    ),
    told: {
      labels: { namespace: 'shop', pod: 'east-a-0' },
      summary: 'Changes at pod shop/east-a-0 take long until they are durable on both filers.',
    },
  },
  {
    alert: 'TandemLogSlow',
    at: 20,
    series: histogram(
      'tandem_log_commit_seconds',
      A,
      ['0.25', '0.5', '+Inf'],
      ['0+60x30', '0+60x30', '0+60x30'],
    ),
  },
  {
    alert: 'TandemConsistencyPointSlow',
    at: 25,
    series: histogram('tandem_cp_seconds', A, ['10', '30', '+Inf'], ['0+1x30', '0+6x30', '0+6x30']),
    told: {
      labels: { namespace: 'shop', pod: 'east-a-0' },
      summary: 'Consistency points of pod shop/east-a-0 take longer than 10 s.',
    },
  },
  {
    alert: 'TandemConsistencyPointSlow',
    at: 25,
    series: histogram('tandem_cp_seconds', A, ['10', '30', '+Inf'], ['0+6x30', '0+6x30', '0+6x30']),
  },
  {
    alert: 'TandemFilerBusy',
    at: 7,
    series: { [`tandem_nodejs_eventloop_lag_p99_seconds{${A}}`]: '0.3x20' },
    told: {
      labels: POD_A,
      summary: 'The event loop of pod shop/east-a-0 is held up: the partner may take it for dead.',
    },
  },
  {
    alert: 'TandemFilerBusy',
    at: 7,
    series: { [`tandem_nodejs_eventloop_lag_p99_seconds{${A}}`]: '0.05x20' },
  },
  {
    alert: 'TandemMirrorOutOfSync',
    at: 20,
    series: {
      ...condition('Mirror', 'home', 'InSync', 'LinkLost', '0x10 _x10'),
      ...condition('Mirror', 'home', 'InSync', 'CatchingUp', '_x10 0x10'),
    },
    told: {
      labels: about('Mirror', 'home'),
      summary: 'Mirror shop/home is not in sync: what is acknowledged is not at the destination yet.',
    },
  },
  // Broken as it was asked for; and one whose first image takes its time.
  {
    alert: 'TandemMirrorOutOfSync',
    at: 20,
    series: {
      ...condition('Mirror', 'home', 'InSync', 'Broken', '0x25'),
      ...condition('Mirror', 'web', 'InSync', 'Baseline', '0x25'),
    },
  },
  {
    alert: 'TandemMirrorLagging',
    at: 15,
    series: both('tandem_mirror_lag_seconds', 'mirror="m",volume="home",role="Source"', '5400x20', '0x20'),
    told: {
      labels: { namespace: 'shop', pair: 'east', volume: 'home' },
      summary: 'The mirror of volume home of pair shop/east is 1h 30m 0s behind.',
    },
  },
  {
    alert: 'TandemMirrorLagging',
    at: 15,
    series: both(
      'tandem_mirror_lag_seconds',
      'mirror="m",volume="home",role="Source"',
      '5400x8 0x12',
      '0x20',
    ),
  },
  {
    alert: 'TandemMirrorLogFilesHigh',
    at: 8,
    series: {
      ...both('tandem_mirror_log_files', 'mirror="m",volume="home",role="Source"', '13x10', '0x10'),
      ...both('tandem_mirror_log_files_max', 'mirror="m",volume="home",role="Source"', '16x10', '0x10'),
    },
    told: {
      labels: { namespace: 'shop', pair: 'east', volume: 'home' },
      summary: 'The destination of volume home of pair shop/east has used 81.25% of its log files.',
    },
  },
  {
    alert: 'TandemMirrorLogFilesHigh',
    at: 8,
    series: {
      ...both('tandem_mirror_log_files', 'mirror="m",volume="home",role="Source"', '12x10', '0x10'),
      ...both('tandem_mirror_log_files_max', 'mirror="m",volume="home",role="Source"', '16x10', '0x10'),
    },
  },
  {
    alert: 'TandemMirrorWaits',
    at: 35,
    series: condition('Mirror', 'home', 'Ready', 'WouldDiscardChanges', '0x40'),
    told: {
      labels: about('Mirror', 'home'),
      summary: 'Mirror shop/home does not go on until somebody decides.',
    },
  },
  {
    alert: 'TandemMirrorWaits',
    at: 35,
    series: condition('Mirror', 'home', 'Ready', 'Resyncing', '0x40'),
  },
  {
    alert: 'TandemConversionWaits',
    at: 35,
    series: condition('Conversion', 'archive', 'Complete', 'NoSpace', '0x40'),
    told: {
      labels: about('Conversion', 'archive'),
      summary: 'Conversion shop/archive does not go on.',
    },
  },
  {
    alert: 'TandemConversionWaits',
    at: 35,
    series: {
      ...condition('Conversion', 'archive', 'Complete', 'Paused', '0x40'),
      ...condition('Conversion', 'archive', 'RolledBack', 'NotAsked', '0x40'),
    },
  },
  // One that a takeover disturbed for a while.
  {
    alert: 'TandemConversionWaits',
    at: 35,
    series: {
      ...condition('Conversion', 'archive', 'Complete', 'NotRedundant', '0x20 _x20'),
      ...condition('Conversion', 'archive', 'Complete', 'NotYet', '_x20 0x20'),
    },
  },
  {
    alert: 'TandemConversionUnfinished',
    at: 1450,
    series: {
      ...both(
        'tandem_conversion_state',
        'volume="archive",aggregate="aggr3",state="Scanning"',
        '0x1500',
        '1x600 0x900',
      ),
      ...both(
        'tandem_conversion_state',
        'volume="archive",aggregate="aggr3",state="Joining"',
        '_x600 1x900',
        '0x1500',
      ),
    },
    told: {
      labels: { namespace: 'shop', pair: 'east', volume: 'archive' },
      summary: 'Volume archive of pair shop/east has been in the middle of a conversion for a day.',
    },
  },
  {
    alert: 'TandemConversionUnfinished',
    at: 1450,
    series: {
      ...both(
        'tandem_conversion_state',
        'volume="archive",aggregate="aggr3",state="Scanning"',
        '1x600 0x900',
        '0x1500',
      ),
      ...both(
        'tandem_conversion_state',
        'volume="archive",aggregate="aggr3",state="Complete"',
        '0x600 1x900',
        '0x1500',
      ),
    },
  },
  {
    alert: 'TandemNotAccepted',
    at: 12,
    series: condition('FilerVolume', 'home', 'Accepted', 'InvalidSpec', '0x20'),
    told: { labels: about('FilerVolume', 'home'), summary: 'FilerVolume shop/home asks for what cannot be.' },
  },
  {
    alert: 'TandemNotAccepted',
    at: 12,
    series: condition('FilerVolume', 'home', 'Accepted', 'Accepted', '1x20'),
  },
  {
    alert: 'TandemNotUpToDate',
    at: 370,
    series: condition('FilerPair', 'east', 'UpToDate', 'WaitingForRedundancy', '0x400'),
    told: {
      labels: about('FilerPair', 'east'),
      summary: 'Pods of pair shop/east do not run what is wanted.',
    },
  },
  {
    alert: 'TandemNotUpToDate',
    at: 370,
    series: condition('FilerPair', 'east', 'UpToDate', 'Updating', '0x60 _x400'),
  },
  {
    alert: 'TandemOperatorAbsent',
    at: 12,
    series: { 'tandem_operator_leader{namespace="tandem-system",pod="tandem-operator-1"}': '0x20' },
    told: {
      labels: {},
      summary: 'No operator leads: filers serve and take over, but nothing is made, changed or told.',
    },
  },
  {
    alert: 'TandemOperatorAbsent',
    at: 12,
    series: {
      'tandem_operator_leader{namespace="tandem-system",pod="tandem-operator-1"}': '0x20',
      'tandem_operator_leader{namespace="tandem-system",pod="tandem-operator-2"}': '1x20',
    },
  },
  {
    alert: 'TandemOperatorFails',
    at: 35,
    series: {
      'tandem_operator_failed_passes_total{namespace="tandem-system",pod="tandem-operator-1"}': '0+10x40',
    },
    told: {
      labels: { namespace: 'tandem-system', pod: 'tandem-operator-1' },
      summary: 'The operator tandem-system/tandem-operator-1 cannot do what it wants to, again and again.',
    },
  },
  {
    alert: 'TandemOperatorFails',
    at: 35,
    series: {
      'tandem_operator_failed_passes_total{namespace="tandem-system",pod="tandem-operator-1"}': '0+1x40',
    },
  },
]

/** The kind FilerVolume: a tree of files in an aggregate of a pair, exported under a path. */
import {
  defaulted,
  integer,
  list,
  object,
  oneOf,
  optional,
  quantity,
  rule,
  string,
  transition,
} from '../schema.ts'
import type { Infer, Kind, Rule } from '../schema.ts'
import { GROUP, VERSION, acceptedReasons, atLeast, conditions, exportRules } from './common.ts'
import type { Metadata } from './common.ts'
import { deviceSetRules, deviceSets, filerName, objectName } from './device-set.ts'

/** Names of a pod's volumes have 63 characters; `dev-vol-<volume>-<set>-<n>` needs so many for what is neither volume nor set. */
const TRADITIONAL_NAMES_MAX = 51
const TRADITIONAL_NAME = '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'
/** Snapshots that people make are called `manual.<time>` unless they say otherwise. */
const MANUAL = 'manual'
const STATUS_SNAPSHOTS_MAX = 32

/** `*`, `*` every so many, a number, a range, a range every so many; several with commas. */
function cronField(number: string): string {
  const item = `([*](/[1-9][0-9]?)?|${number}(-${number}(/[1-9][0-9]?)?)?)`
  return `${item}(,${item})*`
}
const CRON = `^${[
  '[0-5]?[0-9]',
  '([01]?[0-9]|2[0-3])',
  '(0?[1-9]|[12][0-9]|3[01])',
  '(0?[1-9]|1[0-2])',
  '[0-6]',
]
  .map(cronField)
  .join(' ')}$`

const schedule = object('When snapshots are made, and how many stay.', {
  name: string('Its snapshots are called `<name>.<UTC time>`.', {
    pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
    patternMeans: 'a name of lower-case letters, digits and hyphens',
    maxLength: 30,
  }),
  cron: string(
    'Minute, hour, day of the month, month, day of the week (0 is Sunday), in UTC: `0 * * * *` is every full hour.',
    { maxLength: 128 },
  ),
  keep: integer('How many of its snapshots stay; older ones are deleted.', { minimum: 1, maximum: 255 }),
})

const spec = object('What the volume shall be.', {
  pairName: string('The FilerPair, in the same namespace. Fixed.', {
    pattern: '^[a-z]([-a-z0-9]*[a-z0-9])?$',
    patternMeans: 'the name of a FilerPair',
    maxLength: 40,
  }),
  type: defaulted(
    oneOf(
      'Flexible: lives in an aggregate and takes room as it is written. Traditional: has devices of its own, and single block numbers. Fixed, but that a volume that was converted may be called Flexible, with `aggregate` and `size` instead of `filer` and `deviceSets`.',
      ['Flexible', 'Traditional'],
    ),
    'Flexible',
  ),
  aggregate: optional(
    string('Flexible: the aggregate of the pair in which it lives. Fixed.', {
      pattern: '^[a-z][a-z0-9]{0,14}$',
      patternMeans: 'the name of an aggregate of the pair',
      maxLength: 15,
    }),
  ),
  size: optional(
    quantity('Flexible: how much its files may take. May be raised, and lowered to what is used.'),
  ),
  filer: optional(filerName('Traditional: the filer that serves it while both are well. Fixed.')),
  deviceSets: optional(
    deviceSets('Traditional: its devices, at both filers. Sets may be appended and counts raised.'),
  ),
  export: defaulted(
    object('How clients see it.', {
      path: optional(
        string('Path that clients mount, unique in the pair; by default `/<name of the volume>`.', {
          pattern: '^(/[A-Za-z0-9][A-Za-z0-9._-]*)+$',
          patternMeans: 'a path such as /home',
          maxLength: 255,
        }),
      ),
      rules: optional(exportRules('Who may; by default `exportDefaults` of the pair.')),
    }),
    {},
  ),
  snapshotPolicy: optional(
    object('Snapshots that the filer makes and deletes by itself.', {
      schedules: list('When.', schedule, { listType: 'map', key: 'name', maxItems: 8 }),
    }),
  ),
  claimName: optional(
    objectName(
      'Name of a ReadWriteMany claim that the operator keeps in the namespace, bound to the volume. Taken out, the claim is deleted; another name needs that first.',
    ),
  ),
  reclaimPolicy: defaulted(
    oneOf(
      'What becomes of the data when the volume is deleted. Retain: it stays where it is, listed in `status.retainedVolumes` of the pair.',
      ['Retain', 'Delete'],
    ),
    'Retain',
  ),
  adopt: optional(
    string(
      'The id of a retained volume (`status.retainedVolumes` of the pair) that this one takes back. Fixed once in force.',
      { minLength: 1, maxLength: 64 },
    ),
  ),
})
export type FilerVolumeSpec = Infer<typeof spec>

const status = object('What is.', {
  observedGeneration: optional(integer('metadata.generation that this status speaks of.')),
  conditions: optional(conditions),
  id: optional(string('Names the volume for ever.')),
  type: optional(string('Type: that of the spec, and `Flexible` after a conversion.')),
  aggregate: optional(string('Aggregate in which it lives.')),
  servedBy: optional(string('The filer that serves it.')),
  size: optional(string('Size in force.')),
  used: optional(
    string('Used by its files, roughly, without what only snapshots hold; exact figures are metrics.'),
  ),
  unrepairableBlocks: optional(
    integer(
      'Its blocks that neither copy has as they should be, as far as is known, counted up to 100: reading them is an error. Absent if none is known.',
    ),
  ),
  snapshotCount: optional(integer('How many snapshots there are.')),
  snapshotUsed: optional(string('What only snapshots hold, roughly.')),
  snapshots: optional(
    list(
      `The newest ${STATUS_SNAPSHOTS_MAX} snapshots, newest first.`,
      object('A snapshot.', {
        name: string('Name; its files are under `.snapshot/<name>`.'),
        created: string('When.', { format: 'date-time' }),
        used: optional(string('What only it holds, roughly.')),
      }),
      { listType: 'atomic', maxItems: STATUS_SNAPSHOTS_MAX },
    ),
  ),
  snapshotRequest: optional(
    object('What became of the last order by hand (annotation `tandem.storage/snapshot-request`).', {
      id: string('Its id.'),
      op: optional(string('Create, Delete or Restore.')),
      snapshot: optional(string('Name of the snapshot.')),
      state: oneOf('A finished order is never done again.', ['Pending', 'Done', 'Failed']),
      reason: optional(string('One word, when it failed.')),
      message: optional(string('Why it failed, or what it waits for.')),
    }),
  ),
  message: optional(string('The most important thing to know.')),
  mount: optional(
    object('What a client types: `mount -t nfs -o OPTIONS SERVER:PATH DIRECTORY`.', {
      server: string('Address of the filer’s Service.'),
      path: string('Path.'),
      options: string('Options.'),
    }),
  ),
})
export type FilerVolumeStatus = Infer<typeof status>

const fixed = (field: string) =>
  transition<unknown>(
    `spec.${field}`,
    'self == oldSelf',
    `spec.${field} is fixed when the volume is made; put the old value back, or make a new volume`,
    (self, old) => self === old,
  )

type Shape = Partial<Record<'type' | 'aggregate' | 'size' | 'filer' | 'deviceSets', unknown>>

/** What each type needs, and what is not for it. */
const typeRules: Rule[] = [
  rule<Shape>(
    'spec',
    "self.type != 'Flexible' || (has(self.aggregate) && has(self.size))",
    'a Flexible volume lives in an aggregate and has a size: give spec.aggregate and spec.size',
    (self) => self.type !== 'Flexible' || (self.aggregate !== undefined && self.size !== undefined),
  ),
  rule<Shape>(
    'spec',
    "self.type != 'Flexible' || (!has(self.filer) && !has(self.deviceSets))",
    'spec.filer and spec.deviceSets are for type: Traditional only (a Flexible volume has the home and the devices of its aggregate): remove them, or make a Traditional volume',
    (self) => self.type !== 'Flexible' || (self.filer === undefined && self.deviceSets === undefined),
  ),
  rule<Shape>(
    'spec',
    "self.type != 'Traditional' || (has(self.filer) && has(self.deviceSets))",
    'a Traditional volume has a home and devices of its own: give spec.filer and spec.deviceSets',
    (self) => self.type !== 'Traditional' || (self.filer !== undefined && self.deviceSets !== undefined),
  ),
  rule<Shape>(
    'spec',
    "self.type != 'Traditional' || (!has(self.aggregate) && !has(self.size))",
    'a Traditional volume lives in no aggregate and is as large as its devices: remove spec.aggregate and spec.size',
    (self) => self.type !== 'Traditional' || (self.aggregate === undefined && self.size === undefined),
  ),
  rule<{ metadata: { name: string }; spec: FilerVolumeSpec }>(
    '',
    "self.spec.type != 'Traditional' || !has(self.spec.deviceSets) || (" +
      `self.metadata.name.matches('${TRADITIONAL_NAME}')` +
      ` && self.spec.deviceSets.all(s, self.metadata.name.size() + s.name.size() <= ${TRADITIONAL_NAMES_MAX}))`,
    `metadata.name of a Traditional volume must have no dot, and with the name of any of its device sets at most ${TRADITIONAL_NAMES_MAX} characters: names of claims and of the pods’ volumes are made from both`,
    ({ metadata, spec }) =>
      spec.type !== 'Traditional' ||
      spec.deviceSets === undefined ||
      (new RegExp(TRADITIONAL_NAME).test(metadata.name) &&
        spec.deviceSets.every((s) => metadata.name.length + s.name.length <= TRADITIONAL_NAMES_MAX)),
  ),
]

export const filerVolume: Kind = {
  group: GROUP,
  version: VERSION,
  kind: 'FilerVolume',
  plural: 'filervolumes',
  singular: 'filervolume',
  shortNames: ['fv'],
  categories: ['tandem'],
  description: 'A tree of files in an aggregate of a FilerPair, exported over NFS.',
  spec,
  status,
  rules: [
    ...['pairName', 'aggregate', 'filer'].map(fixed),
    transition<string>(
      'spec.type',
      "self == oldSelf || (oldSelf == 'Traditional' && self == 'Flexible')",
      'spec.type is fixed when the volume is made; put the old value back, or make a new volume (one that was converted may be called Flexible)',
      (self, old) => self === old || (old === 'Traditional' && self === 'Flexible'),
    ),
    ...typeRules,
    ...deviceSetRules('spec.deviceSets'),
    atLeast('spec.size', '16Mi', 'a volume'),
    rule<string>(
      'spec.snapshotPolicy.schedules[].cron',
      `self.matches('${CRON}')`,
      'cron is five fields with one space between them: minute (0-59), hour (0-23), day of the month (1-31), month (1-12), day of the week (0-6, 0 is Sunday); each is *, */5, 7, 1-5, 1-5/2, or several of these with commas, such as 15,45 * * * 1-5',
      (self) => new RegExp(CRON).test(self),
    ),
    rule<string>(
      'spec.snapshotPolicy.schedules[].name',
      `self != '${MANUAL}'`,
      `a schedule is not called ${MANUAL}, for so are snapshots that people make; choose another name`,
      (self) => self !== MANUAL,
    ),
    transition<string>(
      'spec.claimName',
      'self == oldSelf',
      'spec.claimName does not change from one name to another: take it out, so that the old claim goes, then put the new one in',
      (self, old) => self === old,
    ),
  ],
  columns: [
    { name: 'Ready', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
    { name: 'Pair', type: 'string', jsonPath: '.spec.pairName' },
    { name: 'Type', type: 'string', jsonPath: '.status.type' },
    { name: 'Size', type: 'string', jsonPath: '.status.size' },
    { name: 'Used', type: 'string', jsonPath: '.status.used' },
    { name: 'Path', type: 'string', jsonPath: '.status.mount.path' },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
    { name: 'Message', type: 'string', jsonPath: '.status.message', wide: true },
  ],
  conditions: [
    {
      type: 'Accepted',
      means: 'The spec is valid and in force.',
      reasons: {
        ...acceptedReasons,
        PairNotFound: 'There is no FilerPair of the name in `spec.pairName`.',
        AggregateNotFound: 'The pair has no aggregate of the name in `spec.aggregate`.',
        AggregateInUse: 'A Conversion has the aggregate in `spec.aggregate` until it is complete.',
        FilerNotFound: 'The pair has no filer of the name in `spec.filer`.',
        NameTaken:
          'An older volume of the pair is exported under the same path, or has the same `spec.claimName`.',
        RetainedDataExists:
          'Claims of an earlier Traditional volume of this name are still there, and are not touched unless `spec.adopt` names it.',
        RetainedVolumeNotFound: '`spec.adopt` names a volume that is not there.',
        VolumeInUse: '`spec.adopt` names a volume that another FilerVolume has.',
        Unknown: '`spec.adopt` names a volume, and no filer could be asked yet whether it is there.',
      },
    },
    {
      type: 'Ready',
      means: 'The volume is served.',
      reasons: {
        Ready: 'It is.',
        NotAccepted: 'There is no accepted spec yet.',
        Creating: 'The filer is making it.',
        PairNotReady: 'The side of the pair in which it lives is not served.',
        NoSpace: 'The filer has no room for it, or for the new size.',
        Failed: 'The filer could not make or change it; the message says why.',
        Removing: 'Its data is being freed.',
        InUse: 'The volume is being deleted and waits for its Mirror or Conversion.',
      },
    },
    {
      type: 'Intact',
      means: 'No block of the volume is known that neither copy has as it should be.',
      reasons: {
        Intact:
          'None is known. What was not read since the filer began to serve it is looked at by the scrub.',
        NotAccepted: 'There is no accepted spec yet.',
        BlocksLost:
          'Reading these blocks is an error (EIO), and so are directories and files that need them; everything else is served.',
        Unknown: 'The volume is not served, so nobody knows.',
      },
    },
    {
      type: 'Exported',
      means: 'Some client may mount it.',
      reasons: {
        Exported: 'One may.',
        NotAccepted: 'There is no accepted spec yet.',
        NoRules: 'Neither the volume nor the pair has export rules.',
        MirrorDestination: 'It is the destination of a Mirror.',
      },
    },
    {
      type: 'Claimed',
      means: 'The claim of `spec.claimName`, if one is wanted, is bound to the volume.',
      reasons: {
        Claimed: 'It is.',
        NoClaim: '`spec.claimName` is not given: none is wanted.',
        NotAccepted: 'There is no accepted spec yet.',
        Binding: 'The claim or its PersistentVolume is being made or bound.',
        NameTaken: 'There is a claim of that name, which is not the volume’s, and is not touched.',
        Outdated:
          'The PersistentVolume mounts what the volume was exported as before, and cannot be changed while the claim is there.',
        NotAllowed:
          'The operator may not handle PersistentVolumes (it is installed for some namespaces only).',
      },
    },
  ],
}

export interface FilerVolume {
  apiVersion: string
  kind: 'FilerVolume'
  metadata: Metadata
  spec: FilerVolumeSpec
  status?: FilerVolumeStatus
}

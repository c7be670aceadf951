/** The kind FilerVolume: a tree of files in an aggregate of a pair, exported under a path. */
import { defaulted, integer, object, oneOf, optional, quantity, string, transition } from '../schema.ts'
import type { Infer, Kind } from '../schema.ts'
import { GROUP, VERSION, atLeast, conditions, exportRules } from './common.ts'
import type { Metadata } from './common.ts'

const spec = object('What the volume shall be.', {
  pairName: string('The FilerPair, in the same namespace. Fixed.', {
    pattern: '^[a-z]([-a-z0-9]*[a-z0-9])?$',
    patternMeans: 'the name of a FilerPair',
    maxLength: 40,
  }),
  type: defaulted(
    oneOf('Flexible: lives in an aggregate, takes room as it is written, moves when its blocks move.', [
      'Flexible',
    ]),
    'Flexible',
  ),
  aggregate: string('The aggregate of the pair in which it lives. Fixed.', {
    pattern: '^[a-z][a-z0-9]{0,14}$',
    patternMeans: 'the name of an aggregate of the pair',
    maxLength: 15,
  }),
  size: quantity('How much its files may take. May be raised, and lowered to what is used.'),
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
  reclaimPolicy: defaulted(
    oneOf(
      'What becomes of the data when the volume is deleted. Retain: it stays in the aggregate, listed in `status.retainedVolumes` of the pair.',
      ['Retain', 'Delete'],
    ),
    'Retain',
  ),
})
export type FilerVolumeSpec = Infer<typeof spec>

const status = object('What is.', {
  observedGeneration: optional(integer('metadata.generation that this status speaks of.')),
  conditions: optional(conditions),
  id: optional(string('Names the volume for ever.')),
  type: optional(string('Type.')),
  aggregate: optional(string('Aggregate.')),
  servedBy: optional(string('The filer that serves it.')),
  size: optional(string('Size in force.')),
  used: optional(string('Used, roughly; exact figures are metrics.')),
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
  rules: [fixed('pairName'), fixed('aggregate'), atLeast('spec.size', '16Mi', 'a volume')],
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
        Accepted: 'It is.',
        InvalidSpec: 'A field is wrong; the last accepted spec, if any, stays in force.',
        ImmutableField: 'A field that is fixed was changed; the last accepted spec stays in force.',
        PairNotFound: 'There is no FilerPair of the name in `spec.pairName`.',
        AggregateNotFound: 'The pair has no aggregate of the name in `spec.aggregate`.',
        NameTaken: 'An older volume of the pair is exported under the same path.',
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
      },
    },
    {
      type: 'Exported',
      means: 'Some client may mount it.',
      reasons: {
        Exported: 'One may.',
        NotAccepted: 'There is no accepted spec yet.',
        NoRules: 'Neither the volume nor the pair has export rules.',
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

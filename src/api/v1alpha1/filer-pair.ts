/** The kind FilerPair: two filers that serve files together, and what they store them on. */
import {
  defaulted,
  integer,
  list,
  map,
  object,
  oneOf,
  optional,
  quantity,
  duration,
  string,
} from '../schema.ts'
import { rule, transition } from '../schema.ts'
import type { Infer, Kind } from '../schema.ts'
import { GROUP, VERSION, atLeast, exportRules } from './common.ts'
import type { Metadata } from './common.ts'
import {
  deviceSetRules,
  deviceSets,
  filerName,
  objectName,
  partName,
  storageClassName,
} from './device-set.ts'
import { pairConditions } from './filer-pair-conditions.ts'
import { pairStatus } from './filer-pair-status.ts'
import type { FilerPairStatus } from './filer-pair-status.ts'

export type { FilerPairStatus }

const NAME_MAX = 40
const SIZE_MIN = { log: '32Mi', cache: '64Mi' } as const

const aggregate = object('A pool of devices. Every set exists at both filers: each has a whole copy.', {
  name: partName('Name of the aggregate.'),
  filer: filerName('Home: the filer that serves it while both are well. Fixed.'),
  deviceSets: deviceSets('What it is made of. Sets may be appended and counts raised while clients write.'),
})

const toleration = object('As in a pod.', {
  key: optional(string('Taint key.', { maxLength: 316 })),
  operator: optional(oneOf('How value is compared.', ['Exists', 'Equal'])),
  value: optional(string('Taint value.', { maxLength: 253 })),
  effect: optional(oneOf('Taint effect.', ['NoSchedule', 'PreferNoSchedule', 'NoExecute'])),
  tolerationSeconds: optional(integer('How long NoExecute is tolerated.')),
})

const spec = object('What the pair shall be. Only aggregates must be given.', {
  filers: defaulted(
    list(
      'The two filers. Their names are fixed at birth.',
      object('A filer.', {
        name: filerName('Name of the filer.'),
        nodeSelector: optional(
          map('Labels of the nodes on which its pod may run.', string('Value.', { maxLength: 63 }), {
            maxProperties: 16,
          }),
        ),
      }),
      { listType: 'map', key: 'name', minItems: 2, maxItems: 2 },
    ),
    [{ name: 'a' }, { name: 'b' }],
  ),
  interconnects: defaulted(
    list(
      'The networks between the filers, all used at once. `default` is the pod network.',
      object('A network.', {
        name: partName('`default`, else the name of the interface in the pod.'),
        networkAttachment: optional(
          object('The NetworkAttachmentDefinition that makes the interface.', {
            name: objectName('Its name.'),
            namespace: optional(objectName('Its namespace; by default the pair’s.')),
          }),
        ),
      }),
      { listType: 'map', key: 'name', minItems: 1, maxItems: 8 },
    ),
    [{ name: 'default' }],
  ),
  aggregates: list(
    'Pools of devices in which volumes live. An entry may go when it holds no volume.',
    aggregate,
    { listType: 'map', key: 'name', maxItems: 16 },
  ),
  log: defaulted(
    object('The operation log: what was acknowledged and is not yet in a consistency point.', {
      size: defaulted(quantity('Size of one filer’s log, both halves. Fixed at birth.'), '1Gi'),
      durability: defaulted(
        oneOf(
          'When an answer may leave: Disk = both filers have flushed the record, Memory = both have it in memory. With Memory, what was acknowledged within the last consistency point’s time (10 s) is lost if both filers fail at once.',
          ['Disk', 'Memory'],
        ),
        'Disk',
      ),
      storageClassName,
    }),
    {},
  ),
  reads: defaulted(
    oneOf(
      'How a filer knows that its partner does not serve meanwhile. Leased: by its clock. Confirmed: by asking, once for each batch of reads; for nodes that are virtual machines which may be paused.',
      ['Leased', 'Confirmed'],
    ),
    'Leased',
  ),
  cacheSize: defaulted(
    quantity(
      'Buffer cache of each filer; a pod asks for this and 512Mi more, and with `log.durability: Memory` for twice `log.size` more.',
    ),
    '1Gi',
  ),
  state: defaulted(
    oneOf(
      'Stopped: both filers write everything to both copies and end; no pods, and data and addresses stay.',
      ['Running', 'Stopped'],
    ),
    'Running',
  ),
  maintenance: optional(
    object(
      'The filer named hands its volumes to its partner as planned, and gets them back when this goes.',
      {
        filer: filerName('The filer that is to serve nothing.'),
      },
    ),
  ),
  acceptLoss: optional(
    object(
      'Last resort, when the filer with the newest copy is lost for good: serve a copy that is out of date. It happens once, at this epoch.',
      {
        filer: filerName(
          'The filer whose copy is served from now on. `status.outOfDateCopies` says what it lacks.',
        ),
        epoch: integer('`status.epoch` as you saw it. Of another epoch it does nothing.', { minimum: 1 }),
        otherCopy: defaulted(
          oneOf(
            'What becomes of the other filer’s copy, should it come back: Discarded = filled anew from this one.',
            ['Kept', 'Discarded'],
          ),
          'Kept',
        ),
      },
    ),
  ),
  takeover: defaulted(
    object('Who serves when.', {
      mode: defaulted(
        oneOf('Whether a survivor takes over by itself.', ['Automatic', 'Manual']),
        'Automatic',
      ),
      giveback: defaulted(
        oneOf('Whether a side goes home by itself once both copies are current again.', [
          'Automatic',
          'Manual',
        ]),
        'Automatic',
      ),
      givebackDelay: defaulted(duration('How long both copies are current before that.'), '10m'),
      givebackEpoch: optional(
        integer('`status.epoch` as you saw it: give back now. Of another epoch it does nothing.', {
          minimum: 0,
        }),
      ),
    }),
    {},
  ),
  placement: defaulted(
    object('Where the two pods go.', {
      spread: defaulted(
        oneOf('Required: never in one domain of topologyKey. Preferred: one node is enough.', [
          'Required',
          'Preferred',
        ]),
        'Required',
      ),
      topologyKey: defaulted(
        string('Label of nodes that tells failure domains apart.', { minLength: 1, maxLength: 316 }),
        'kubernetes.io/hostname',
      ),
    }),
    {},
  ),
  service: defaulted(
    object('The Services that clients mount from, one for each filer.', {
      type: defaulted(oneOf('Type of the Services.', ['ClusterIP', 'LoadBalancer', 'NodePort']), 'ClusterIP'),
      annotations: optional(
        map('Annotations of the Services.', string('Value.', { maxLength: 4096 }), { maxProperties: 32 }),
      ),
    }),
    {},
  ),
  exportDefaults: defaulted(exportRules('Rules of volumes that have none of their own.'), []),
  image: optional(
    string('Image of the filers; by default the operator’s own.', { minLength: 1, maxLength: 512 }),
  ),
  podTemplate: defaulted(
    object('What is added to the filers’ pods.', {
      labels: optional(map('Labels.', string('Value.', { maxLength: 63 }), { maxProperties: 32 })),
      annotations: optional(
        map('Annotations.', string('Value.', { maxLength: 4096 }), { maxProperties: 32 }),
      ),
      tolerations: optional(list('Tolerations.', toleration, { listType: 'atomic', maxItems: 16 })),
      cpu: optional(quantity('CPU request.')),
      priorityClassName: optional(objectName('PriorityClass.')),
      imagePullSecrets: optional(
        list('Secrets to pull the image with.', object('A Secret.', { name: objectName('Its name.') }), {
          listType: 'map',
          key: 'name',
          maxItems: 8,
        }),
      ),
      supplementalGroups: optional(
        list(
          'Groups that may open the devices.',
          integer('A group id.', { minimum: 1, maximum: 4294967294 }),
          {
            listType: 'atomic',
            maxItems: 16,
          },
        ),
      ),
    }),
    {},
  ),
  update: defaulted(
    oneOf(
      'Who replaces pods that have an older template: the operator, one at a time and only while the pair is redundant, or you, by deleting them.',
      ['Automatic', 'Manual'],
    ),
    'Automatic',
  ),
  reclaimPolicy: defaulted(
    oneOf(
      'What becomes of the claims and of the Lease when the pair is deleted, and of the claims of an aggregate that is taken out.',
      ['Retain', 'Delete'],
    ),
    'Retain',
  ),
  adopt: optional(
    string(
      '`status.id` of a deleted pair of this name whose claims and Lease are to be used. Fixed once in force.',
      {
        minLength: 1,
        maxLength: 64,
      },
    ),
  ),
})
export type FilerPairSpec = Infer<typeof spec>
export type AggregateSpec = Infer<typeof aggregate>

const names = (entries: readonly { name: string }[]) => entries.map((e) => e.name)
const sameNames = (self: readonly { name: string }[], old: readonly { name: string }[]) =>
  self.length === old.length && names(old).every((name) => names(self).includes(name))
const same = (self: unknown, old: unknown) => JSON.stringify(self) === JSON.stringify(old)

export const filerPair: Kind = {
  group: GROUP,
  version: VERSION,
  kind: 'FilerPair',
  plural: 'filerpairs',
  singular: 'filerpair',
  shortNames: ['fp'],
  categories: ['tandem'],
  description:
    'Two filers that serve files together. Each keeps a whole copy of everything; when one goes, the other serves on.',
  spec,
  status: pairStatus,
  rules: [
    rule<{ metadata: { name: string } }>(
      '',
      `self.metadata.name.matches('^[a-z]([-a-z0-9]{0,${NAME_MAX - 2}}[a-z0-9])?$')`,
      `metadata.name must be at most ${NAME_MAX} lower-case letters, digits and hyphens and start with a letter: names of pods, claims and Services are made from it`,
      (self) => new RegExp(`^[a-z]([-a-z0-9]{0,${NAME_MAX - 2}}[a-z0-9])?$`).test(self.metadata.name),
    ),
    transition<{ name: string }[]>(
      'spec.filers',
      'self.all(f, oldSelf.exists(o, o.name == f.name))',
      'spec.filers: the names are fixed when the pair is made, for they name its data; put the old names back, or make a new pair',
      sameNames,
    ),
    rule<FilerPairSpec>(
      'spec',
      'self.aggregates.all(a, self.filers.exists(f, f.name == a.filer))',
      'spec.aggregates[].filer must be the name of one of spec.filers',
      (self) => self.aggregates.every((a) => names(self.filers).includes(a.filer)),
    ),
    ...(['maintenance', 'acceptLoss'] as const).map((field) =>
      rule<FilerPairSpec>(
        'spec',
        `!has(self.${field}) || self.filers.exists(f, f.name == self.${field}.filer)`,
        `spec.${field}.filer must be the name of one of spec.filers`,
        (self) => {
          const filer = self[field]?.filer
          return filer === undefined || names(self.filers).includes(filer)
        },
      ),
    ),
    transition<string>(
      'spec.aggregates[].filer',
      'self == oldSelf',
      'the home of an aggregate is fixed; put the old filer back',
      same,
    ),
    ...deviceSetRules('spec.aggregates[].deviceSets'),
    rule<{ name: string; networkAttachment?: unknown }>(
      'spec.interconnects[]',
      "self.name != 'default' || !has(self.networkAttachment)",
      'the interconnect `default` is the pod network and takes no networkAttachment; remove it or name the interconnect after its interface',
      (self) => self.name !== 'default' || self.networkAttachment === undefined,
    ),
    transition<FilerPairSpec['log']>(
      'spec.log',
      'self.size == oldSelf.size && has(self.storageClassName) == has(oldSelf.storageClassName)' +
        ' && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)',
      'spec.log: size and storageClassName are fixed when the pair is made; put them back as they were',
      (self, old) => self.size === old.size && self.storageClassName === old.storageClassName,
    ),
    atLeast('spec.log.size', SIZE_MIN.log, 'the log'),
    atLeast('spec.cacheSize', SIZE_MIN.cache, 'the cache'),
    ...['labels', 'annotations'].map((field) =>
      rule<Record<string, string>>(
        `spec.podTemplate.${field}`,
        `self.all(k, !k.startsWith('${GROUP}/'))`,
        `spec.podTemplate.${field}: keys that start with ${GROUP}/ belong to the operator; remove them`,
        (self) => !Object.keys(self).some((key) => key.startsWith(`${GROUP}/`)),
      ),
    ),
  ],
  columns: [
    { name: 'Ready', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
    { name: 'Redundant', type: 'string', jsonPath: '.status.conditions[?(@.type=="Redundant")].status' },
    {
      name: 'Takeover',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="TakeoverPossible")].status',
    },
    { name: 'Serving', type: 'string', jsonPath: '.status.serving' },
    { name: 'Links', type: 'string', jsonPath: '.status.links' },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
    { name: 'Message', type: 'string', jsonPath: '.status.message', wide: true },
  ],
  conditions: pairConditions,
}

export interface FilerPair {
  apiVersion: string
  kind: 'FilerPair'
  metadata: Metadata
  spec: FilerPairSpec
  status?: FilerPairStatus
}

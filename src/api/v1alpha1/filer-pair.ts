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
import { GROUP, VERSION, atLeast, conditions, exportRules } from './common.ts'
import type { Metadata } from './common.ts'
import {
  deviceSetRules,
  deviceSets,
  filerName,
  objectName,
  partName,
  storageClassName,
} from './device-set.ts'

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
    {
      listType: 'map',
      key: 'name',
      minItems: 1,
      maxItems: 16,
    },
  ),
  log: defaulted(
    object('The operation log: what was acknowledged and is not yet in a consistency point.', {
      size: defaulted(quantity('Size of one filer’s log, both halves. Fixed at birth.'), '1Gi'),
      durability: defaulted(
        oneOf('When an answer may leave: Disk = both filers have flushed the record.', ['Disk']),
        'Disk',
      ),
      storageClassName,
    }),
    {},
  ),
  cacheSize: defaulted(quantity('Buffer cache of each filer; a pod asks for this and 512Mi more.'), '1Gi'),
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

const status = object('What is.', {
  observedGeneration: optional(integer('metadata.generation that this status speaks of.')),
  conditions: optional(conditions),
  id: optional(string('Names the pair’s copies for ever: devices of another id are refused.')),
  epoch: optional(integer('Grows with every change of who serves what.')),
  serving: optional(string('Which filer serves which side: `a:a b:a` = filer a serves both.')),
  links: optional(string('Interconnects that are up, of all.')),
  message: optional(string('The most important thing to know.')),
  filers: optional(
    list(
      'The two filers.',
      object('A filer.', {
        name: string('Name.'),
        pod: string('Its pod.'),
        node: optional(string('Node of the pod.')),
        state: oneOf('What it does.', ['Serving', 'TakenOver', 'Resyncing', 'Waiting', 'Down']),
        servedBy: optional(string('The filer that serves this one’s volumes.')),
        clusterIP: optional(string('Address of its Service.')),
      }),
      { listType: 'atomic' },
    ),
  ),
  interconnects: optional(
    list(
      'The networks between them.',
      object('A network.', {
        name: string('Name.'),
        state: oneOf('The worse of the two filers’ views.', ['Up', 'Slow', 'Down']),
        roundTripMicroseconds: optional(integer('Round trip, roughly; exact figures are metrics.')),
        addresses: optional(list('Addresses in use.', string('Address and port.'), { listType: 'atomic' })),
      }),
      { listType: 'atomic' },
    ),
  ),
  aggregates: optional(
    list(
      'The aggregates, and the devices of traditional volumes.',
      object('An aggregate.', {
        name: string('Name; `vol-<volume>` for a traditional volume.'),
        servedBy: optional(string('The filer that serves it.')),
        size: optional(string('Size.')),
        used: optional(string('Used, roughly.')),
        devices: optional(integer('How many devices of each filer have joined.')),
        waitingDevices: optional(
          list(
            'Devices that have not joined yet.',
            object('A device.', {
              name: string('`<aggregate>-<set>-<n>`.'),
              reason: string('Why it waits.'),
            }),
            { listType: 'atomic' },
          ),
        ),
        plexes: optional(
          list(
            'Its copies.',
            object('A copy.', {
              filer: string('The filer that holds it.'),
              state: oneOf('How it is.', ['Current', 'Resyncing', 'OutOfDate', 'Missing', 'Damaged']),
              resyncPercent: optional(integer('How far a resync is.')),
            }),
            { listType: 'atomic' },
          ),
        ),
      }),
      { listType: 'atomic' },
    ),
  ),
  lastTakeover: optional(
    object('The last takeover.', {
      filer: string('The filer that took over.'),
      side: optional(string('The side that it took.')),
      reason: string('Why.'),
      time: string('When.', { format: 'date-time' }),
      clientPauseMilliseconds: integer('How long clients waited.'),
    }),
  ),
  retainedVolumes: optional(
    list(
      'Volumes whose FilerVolume is gone and whose data is still there.',
      object('A volume.', {
        id: string('Its id, for `adopt` of a FilerVolume.'),
        name: string('Name of the FilerVolume it was.'),
        type: optional(string('Its type.')),
        aggregate: string('Where it lies.'),
        used: optional(string('Used, roughly.')),
      }),
      { listType: 'atomic' },
    ),
  ),
})
export type FilerPairStatus = Infer<typeof status>

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
  status,
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
  conditions: [
    {
      type: 'Accepted',
      means: 'The spec is valid and in force.',
      reasons: {
        Accepted: 'It is.',
        InvalidSpec: 'A field is wrong; the last accepted spec, if any, stays in force.',
        ImmutableField: 'A field that is fixed was changed; the last accepted spec stays in force.',
        NameTaken: 'An object of a name that the pair needs belongs to somebody else, and is not touched.',
        RetainedDataExists:
          'Claims of an earlier pair of this name are still there, and are not touched unless `spec.adopt` names it.',
        RetainedDataNotFound: '`spec.adopt` names a pair of which no claims are here.',
        InUse:
          'An aggregate that was taken out still holds volumes, or nobody could be asked whether it does.',
      },
    },
    {
      type: 'Ready',
      means: 'Every volume is served, by whichever filer.',
      reasons: {
        Ready: 'They are.',
        NotAccepted: 'There is no accepted spec yet.',
        Starting: 'Pods or filers are on their way.',
        Unschedulable: 'No node may run a pod.',
        StorageClassNotFound: 'A StorageClass that the spec names does not exist.',
        DevicePermissionDenied: 'A filer may not open its device.',
        CopyOutOfDate: 'The filer that is up has a copy that is not the latest.',
        Unreachable: 'A filer’s pod runs, but its administration does not answer.',
        InUse: 'The pair is being deleted and waits for its volumes.',
      },
    },
    {
      type: 'Redundant',
      means: 'Both filers have a current copy of everything.',
      reasons: {
        Redundant: 'They have.',
        NotAccepted: 'There is no accepted spec yet.',
        PartnerDown: 'One filer is not there.',
        Resyncing: 'One filer’s copy is being brought up to date.',
        Unknown: 'No filer could be asked.',
      },
    },
    {
      type: 'TakeoverPossible',
      means: 'Each filer could take over from the other now.',
      reasons: {
        TakeoverPossible: 'It could.',
        NotAccepted: 'There is no accepted spec yet.',
        PartnerDown: 'One filer is not there.',
        Resyncing: 'One filer’s copy is being brought up to date.',
        LogNotMirrored: 'The log is written by one filer alone.',
        VoteUnreachable: 'A filer cannot reach the Lease of the pair.',
        Unknown: 'No filer could be asked.',
      },
    },
    {
      type: 'LinksUp',
      means: 'Every interconnect works.',
      reasons: {
        LinksUp: 'They do.',
        NotAccepted: 'There is no accepted spec yet.',
        LinkDown: 'An interconnect carries nothing.',
        LinkSlow: 'An interconnect is much slower than it was.',
        Unknown: 'No filer could be asked.',
      },
    },
    {
      type: 'UpToDate',
      means: 'The pods run the wanted template, and every device has joined.',
      reasons: {
        UpToDate: 'They do.',
        NotAccepted: 'There is no accepted spec yet.',
        Updating: 'A pod is being replaced.',
        WaitingForRedundancy: 'A pod is replaced once the pair is redundant and everything is at home again.',
        WaitingForClaims: 'A pod is replaced once the new claims can be bound.',
        WaitingForYou: 'A pod has an older template and `spec.update` is `Manual`: delete it.',
        DevicesWaiting: 'A new device has not joined its aggregate yet.',
      },
    },
  ],
}

export interface FilerPair {
  apiVersion: string
  kind: 'FilerPair'
  metadata: Metadata
  spec: FilerPairSpec
  status?: FilerPairStatus
}

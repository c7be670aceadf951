/** The status of a FilerPair: what is. */
import { integer, list, object, oneOf, optional, string } from '../schema.ts'
import type { Infer } from '../schema.ts'
import { conditions } from './common.ts'

export const pairStatus = object('What is.', {
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
        epoch: optional(integer('Of its side: grows with every change of who serves it, alone or not.')),
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
        reason: optional(
          oneOf('Why it is Down, if one filer would not have the other.', [
            'VersionMismatch',
            'WrongPeer',
            'CertificateRefused',
          ]),
        ),
        message: optional(string('What that filer found.')),
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
        unrepairableBlocks: optional(
          integer(
            'Blocks that neither copy has as they should be, as far as is known, counted up to 100: reading them is an error. Absent if none is known; condition Intact of a FilerVolume says which volumes have them.',
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
      clientPauseMilliseconds: optional(integer('How long clients waited; absent until one was answered.')),
    }),
  ),
  outOfDateCopies: optional(
    list(
      'Copies that lack what was acknowledged after some time: what `spec.acceptLoss` would lose.',
      object('A copy.', {
        filer: string('The filer that has it.'),
        side: string('The filer whose volumes it holds.'),
        dataFrom: string('Everything acknowledged until then is in it.', { format: 'date-time' }),
      }),
      { listType: 'atomic' },
    ),
  ),
  acceptedLosses: optional(
    list(
      'Copies that are served by `spec.acceptLoss`, until both filers have the same again.',
      object('A loss.', {
        filer: string('The filer that serves it.'),
        side: string('The filer whose volumes it holds.'),
        dataFrom: string('What was acknowledged after it is lost.', { format: 'date-time' }),
      }),
      { listType: 'atomic' },
    ),
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
export type FilerPairStatus = Infer<typeof pairStatus>

/**
 * Sets of devices, as aggregates and traditional volumes are made of them, with the rules of what may change: sets may be appended and
 * a set's count raised; everything else is fixed when the set is made, for the devices have their labels then.
 */
import { defaulted, integer, oneOf, optional, quantity, string, object, list, transition } from '../schema.ts'
import type { Infer, Rule } from '../schema.ts'
import { atLeast } from './common.ts'

const DEVICE_MIN = '64Mi'

export const filerName = (description: string) =>
  string(description, {
    pattern: '^[a-z][a-z0-9]{0,7}$',
    patternMeans: 'a name of 1 to 8 lower-case letters and digits that starts with a letter',
    maxLength: 8,
  })
export const partName = (description: string) =>
  string(description, {
    pattern: '^[a-z][a-z0-9]{0,14}$',
    patternMeans: 'a name of 1 to 15 lower-case letters and digits that starts with a letter',
    maxLength: 15,
  })
export const objectName = (description: string) =>
  string(description, {
    pattern: '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$',
    patternMeans: 'the name of an object (lower-case letters, digits, hyphens, dots)',
    maxLength: 253,
  })
export const storageClassName = optional(
  objectName('StorageClass of the claims; without it the cluster’s default class. Fixed at birth.'),
)

const deviceSet = object('Devices of one size and class.', {
  name: partName('Name of the set, unique beside the others.'),
  count: defaulted(
    integer('How many devices each filer has. May be raised.', { minimum: 1, maximum: 16 }),
    1,
  ),
  size: quantity('Size of each device. Fixed at birth.'),
  storageClassName,
  volumeMode: defaulted(
    oneOf(
      'What a claim offers: a file system with one file in it, or the bare block device (which the container runtime must open to the filer’s user). Fixed at birth.',
      ['Filesystem', 'Block'],
    ),
    'Filesystem',
  ),
})
export type DeviceSetSpec = Infer<typeof deviceSet>

export const deviceSets = (description: string) =>
  list(description, deviceSet, { listType: 'map', key: 'name', minItems: 1, maxItems: 8 })

const KEPT = 'device sets may be appended, not taken away: put back the one that is gone'
const FIXED =
  'count of a device set may be raised, not lowered; its size, storageClassName and volumeMode are fixed when it is made: put them back as they were, and append a set of another kind'

function keepsDevices(self: DeviceSetSpec, old: DeviceSetSpec): boolean {
  return (
    self.count >= old.count &&
    self.size === old.size &&
    self.volumeMode === old.volumeMode &&
    self.storageClassName === old.storageClassName
  )
}

/** The rules for the list at `path`. */
export function deviceSetRules(path: string): Rule[] {
  return [
    transition<{ name: string }[]>(
      path,
      'oldSelf.all(o, self.exists(s, s.name == o.name))',
      KEPT,
      (self, old) => old.every((o) => self.some((s) => s.name === o.name)),
    ),
    transition<DeviceSetSpec>(
      `${path}[]`,
      'self.count >= oldSelf.count && self.size == oldSelf.size && self.volumeMode == oldSelf.volumeMode' +
        ' && has(self.storageClassName) == has(oldSelf.storageClassName)' +
        ' && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)',
      FIXED,
      keepsDevices,
    ),
    atLeast(`${path}[].size`, DEVICE_MIN, 'a device'),
  ]
}

/** Why sets that were made with `old` cannot become `self`; undefined: they can. */
export function growthProblem(
  self: readonly DeviceSetSpec[],
  old: readonly DeviceSetSpec[],
): string | undefined {
  for (const before of old) {
    const now = self.find((s) => s.name === before.name)
    if (now === undefined) return `${before.name}: ${KEPT}`
    if (!keepsDevices(now, before)) return `${before.name}: ${FIXED}`
  }
  return undefined
}

import { expect, test } from '@jest/globals'
import type { MirrorStatus } from '../mirror/status.ts'
import { MirrorMeters } from './mirror-meters.ts'

const status: MirrorStatus = {
  id: 'm',
  volumeId: 'v',
  role: 'Source',
  state: 'InSync',
  reason: '',
  message: '',
  connected: true,
  generation: 1,
  lagSeconds: 0,
  lagBytes: 0,
  logFiles: 2,
  logFilesMax: 16,
  unacknowledged: 3,
  durableImage: 4,
  sentBytes: 100,
}

test('a mirror’s series follow what the filer tells; bytes count on when its side is opened anew, and all is 0 when it is served elsewhere', () => {
  const series = new Map<string, number>()
  const key = (name: string, { state = '' }: Readonly<Record<string, string>> = {}): string =>
    `${name} ${state}`.trim()
  const meters = new MirrorMeters({
    add: (name, value = 1, labels) =>
      series.set(key(name, labels), (series.get(key(name, labels)) ?? 0) + value),
    set: (name, value, labels) => series.set(key(name, labels), value),
    observe: () => undefined,
  })
  const sent = () => series.get('tandem_mirror_sent_bytes_total')
  meters.tell([status], () => 'home')
  expect(series.get('tandem_mirror_state InSync')).toBe(1)
  expect(series.get('tandem_mirror_state OutOfSync')).toBe(0)
  expect(series.get('tandem_mirror_log_files')).toBe(2)
  meters.tell([{ ...status, state: 'OutOfSync', sentBytes: 150, lagSeconds: 7 }], () => 'home')
  expect([series.get('tandem_mirror_state InSync'), series.get('tandem_mirror_state OutOfSync')]).toEqual([
    0, 1,
  ])
  expect([series.get('tandem_mirror_lag_seconds'), sent()]).toEqual([7, 150])
  meters.tell([{ ...status, sentBytes: 20 }], () => 'home')
  expect(sent()).toBe(170)
  meters.tell([], () => 'home')
  expect(series.get('tandem_mirror_state InSync')).toBe(0)
  expect(series.get('tandem_mirror_log_files_max')).toBe(0)
  expect(sent()).toBe(170)
})

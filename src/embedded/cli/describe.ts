/** An object for a person: what it is, its conditions, its spec and status in YAML, the events about it. Pure. */
import { stringify } from 'yaml'
import type { KubeObject } from '../../edge/kube/api.ts'
import { age, table } from './table.ts'

interface ConditionLike {
  readonly type: string
  readonly status: string
  readonly reason?: string
  readonly message?: string
  readonly lastTransitionTime?: string
}

export function describeObject(object: KubeObject, events: readonly KubeObject[], nowMs: number): string {
  const { metadata } = object
  const head: [string, string][] = [
    ['Name:', metadata.name],
    ...(metadata.namespace === undefined ? [] : [['Namespace:', metadata.namespace] as [string, string]]),
    ['Kind:', `${object.kind} (${object.apiVersion})`],
    ['Created:', `${metadata.creationTimestamp ?? ''} (${age(metadata.creationTimestamp ?? '', nowMs)})`],
    ...mapRows('Labels:', metadata.labels),
    ...mapRows('Annotations:', metadata.annotations),
  ]
  if (metadata.deletionTimestamp !== undefined)
    head.push([
      'Deleted:',
      `${metadata.deletionTimestamp}, waits for ${(metadata.finalizers ?? []).join(', ') || 'its process'}`,
    ])
  const parts = [table(head)]
  const { conditions, ...status } = (object['status'] ?? {}) as { conditions?: ConditionLike[] } & Record<
    string,
    unknown
  >
  if (conditions !== undefined && conditions.length > 0)
    parts.push(
      `Conditions:\n${indent(
        table([
          ['TYPE', 'STATUS', 'SINCE', 'REASON', 'MESSAGE'],
          ...conditions.map((condition) => [
            condition.type,
            condition.status,
            condition.lastTransitionTime === undefined ? '' : age(condition.lastTransitionTime, nowMs),
            condition.reason ?? '',
            condition.message ?? '',
          ]),
        ]),
      )}`,
    )
  for (const [name, value] of [
    ['Spec', object['spec']],
    ['Status', Object.keys(status).length === 0 ? undefined : status],
  ] as const)
    if (value !== undefined) parts.push(`${name}:\n${indent(stringify(value).trimEnd())}`)
  parts.push(
    events.length === 0
      ? 'Events: none'
      : `Events:\n${indent(
          table([
            ['AGE', 'TYPE', 'REASON', 'COUNT', 'MESSAGE'],
            ...[...events]
              .sort(byTime)
              .map((event) => [
                age(eventTime(event), nowMs),
                text(event['type']),
                text(event['reason']),
                text(event['count'] ?? 1),
                text(event['message'] ?? event['note']),
              ]),
          ]),
        )}`,
  )
  return parts.join('\n')
}

/** Whether the event speaks of the object. */
export function isAbout(event: KubeObject, object: KubeObject): boolean {
  const about = (event['involvedObject'] ?? event['regarding'] ?? {}) as {
    kind?: string
    name?: string
    uid?: string
  }
  return (
    about.kind === object.kind &&
    about.name === object.metadata.name &&
    (about.uid === undefined || about.uid === object.metadata.uid)
  )
}

function eventTime(event: KubeObject): string {
  return text(event['lastTimestamp'] ?? event['eventTime'] ?? event.metadata.creationTimestamp)
}

function byTime(a: KubeObject, b: KubeObject): number {
  return Date.parse(eventTime(a)) - Date.parse(eventTime(b))
}

function mapRows(title: string, map: Readonly<Record<string, string>> | undefined): [string, string][] {
  return Object.entries(map ?? {}).map(([key, value], i) => [i === 0 ? title : '', `${key}=${value}`])
}

function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}

function indent(block: string): string {
  return block.replace(/^/gm, '  ')
}

/** Waits until an object meets a condition, or is gone; every change is looked at, and the time is bounded. */
import { KubeError } from '../../edge/kube/api.ts'
import type { KubeApi, KubeObject, Resource } from '../../edge/kube/api.ts'
import { Informer } from '../../edge/kube/informer.ts'
import { UsageError } from './args.ts'
import { jsonPath } from './table.ts'

export type Goal = (object: KubeObject | undefined) => boolean

/** `condition=Ready`, `condition=Ready=False`, `jsonpath={.status.epoch}=3`, `delete`. */
export function parseGoal(text: string): Goal {
  if (text === 'delete') return (object) => object === undefined
  const condition = /^condition=([A-Za-z]+)(?:=(True|False|Unknown))?$/i.exec(text)
  if (condition !== null) {
    const [, type, status = 'True'] = condition
    return (object) => {
      const conditions = (
        object?.['status'] as
          { conditions?: { type: string; status: string; observedGeneration?: number }[] } | undefined
      )?.conditions
      const found = conditions?.find((candidate) => candidate.type.toLowerCase() === type!.toLowerCase())
      // A condition about an older spec says nothing about this one.
      const isCurrent = (found?.observedGeneration ?? Infinity) >= (object?.metadata.generation ?? 0)
      return found !== undefined && isCurrent && found.status.toLowerCase() === status.toLowerCase()
    }
  }
  // In braces a path may compare: {.status.conditions[?(@.type=="Ready")].reason}.
  const path = /^jsonpath=['"]?(?:\{(.*?)\}|([^={}'"]*))['"]?=(.*)$/.exec(text)
  if (path !== null) {
    const [, braced, bare, value] = path
    return (object) => object !== undefined && String(jsonPath(object, (braced ?? bare)!)) === value
  }
  throw new UsageError(
    `--for ${JSON.stringify(text)} is none of condition=NAME[=STATUS], jsonpath={PATH}=VALUE, delete`,
  )
}

/** `90`, `90s`, `2m`. */
export function parseSeconds(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text)
  if (match === null) throw new UsageError(`${JSON.stringify(text)} is not a time such as 90s or 2m`)
  return Number(match[1]) * { ms: 0.001, s: 1, m: 60, h: 3600 }[match[2] ?? 's']!
}

/** Resolves with whether the goal was met in time, and the object as it was last. */
export async function waitFor(
  api: KubeApi,
  resource: Resource,
  namespace: string,
  name: string,
  goal: Goal,
  timeoutMs: number,
): Promise<{ met: boolean; object: KubeObject | undefined }> {
  const done = Promise.withResolvers<boolean>()
  let failure: unknown
  const look = (): void => {
    if (goal(informer.get(namespace, name))) done.resolve(true)
  }
  const informer = new Informer(api, resource, {
    ...(resource.namespaced ? { namespace } : {}),
    fieldSelector: `metadata.name=${name}`,
    onChange: look,
    onError: (error) => {
      failure = error
      if (error instanceof KubeError && [401, 403].includes(error.code)) done.reject(error)
    },
  })
  const timer = setTimeout(() => done.resolve(false), timeoutMs)
  void informer.start().then(() => {
    failure = undefined
    look()
  })
  try {
    const met = await done.promise
    const object = informer.get(resource.namespaced ? namespace : '', name)
    if (!met && object === undefined && failure !== undefined) throw failure
    return { met, object }
  } finally {
    clearTimeout(timer)
    void informer.stop()
  }
}

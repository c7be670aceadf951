/** `tandem delete`: deletes objects and, unless told otherwise, waits until they are gone. */
import { KubeError } from '../edge/kube/api.ts'
import { UsageError, withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget } from '../embedded/cli/connection.ts'
import { parseSelections } from '../embedded/cli/kinds.ts'
import { readManifests } from '../embedded/cli/manifests.ts'
import { parseSeconds, waitFor } from '../embedded/cli/wait.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'delete',
      summary: 'delete objects',
      operands: '[KIND NAME… | KIND/NAME…]',
      operandsMin: 0,
      operandsMax: Infinity,
      flags: {
        filename: { kind: 'texts', short: 'f', value: 'FILE', meaning: 'the objects of these manifests' },
        state: STATE_FLAG,
        namespace: NAMESPACE_FLAG,
        force: { kind: 'switch', meaning: 'a pod at once, without waiting for its process' },
        'no-wait': { kind: 'switch', meaning: 'do not wait until they are gone' },
        timeout: { kind: 'text', value: 'TIME', meaning: 'how long to wait; default 120s' },
      },
    },
    args,
    async (parsed) => {
      const files = parsed.texts('filename')
      const selections = parsed.operands.length === 0 ? [] : parseSelections(parsed.operands)
      if (selections.some((selection) => selection.names.length === 0))
        throw new UsageError('which? Name them')
      if (files.length === 0 && selections.length === 0)
        throw new UsageError('what? Say KIND NAME, or -f FILE')
      const timeoutMs = parseSeconds(parsed.text('timeout') ?? '120s') * 1000
      const { api, namespace } = await openTarget(parsed)
      const targets = [
        ...selections.flatMap(({ resource, names }) => names.map((name) => ({ resource, name, namespace }))),
        ...(files.length === 0 ? [] : readManifests(files)).map(({ resource, object }) => ({
          resource,
          name: object.metadata.name,
          namespace: object.metadata.namespace ?? namespace,
        })),
      ].reverse()
      let status = 0
      for (const target of targets) {
        const title = `${target.resource.kind.toLowerCase()}/${target.name}`
        let uid: string | undefined
        try {
          uid = (await api.get(target.resource, target.namespace, target.name)).metadata.uid
          await api.delete(
            target.resource,
            target.namespace,
            target.name,
            parsed.has('force') ? { gracePeriodSeconds: 0 } : {},
          )
        } catch (error) {
          if (!(error instanceof KubeError && error.code === 404)) throw error
          console.error(`tandem delete: ${title} is not there`)
          status = 1
          continue
        }
        if (parsed.has('no-wait')) {
          console.log(`${title} is being deleted`)
          continue
        }
        const { met, object } = await waitFor(
          api,
          target.resource,
          target.namespace,
          target.name,
          // A pod of the same name may have come since.
          (now) => now === undefined || now.metadata.uid !== uid,
          timeoutMs,
        )
        if (!met) {
          const waits = (object?.metadata.finalizers ?? []).join(', ')
          console.error(
            `tandem delete: time is up; ${title} is still there${waits === '' ? '' : `, held by ${waits}`} (tandem describe ${title} says why)`,
          )
          return 124
        }
        console.log(`${title} deleted`)
      }
      return status
    },
  )
}

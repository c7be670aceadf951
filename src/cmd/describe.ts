/** `tandem describe`: objects in full, with conditions and events. */
import { EVENTS } from '../edge/kube/resources.ts'
import { withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget } from '../embedded/cli/connection.ts'
import { describeObject, isAbout } from '../embedded/cli/describe.ts'
import { parseSelections } from '../embedded/cli/kinds.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'describe',
      summary: 'show objects with conditions and events',
      operands: 'KIND [NAME…] | KIND/NAME…',
      operandsMin: 1,
      operandsMax: Infinity,
      flags: { state: STATE_FLAG, namespace: NAMESPACE_FLAG },
    },
    args,
    async (parsed) => {
      const selections = parseSelections(parsed.operands)
      const { api, namespace } = await openTarget(parsed)
      const { items: events } = await api.list(EVENTS, { namespace })
      const texts: string[] = []
      for (const { resource, names } of selections) {
        const objects =
          names.length > 0
            ? await Promise.all(names.map((name) => api.get(resource, namespace, name)))
            : (await api.list(resource, resource.namespaced ? { namespace } : {})).items
        for (const object of objects) {
          const about = events.filter((event) => isAbout(event, object))
          texts.push(describeObject(object, about, Date.now()))
        }
      }
      if (texts.length === 0) console.error(`no objects found in namespace ${namespace}`)
      else console.log(texts.join('\n\n'))
      return 0
    },
  )
}

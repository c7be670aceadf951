/** `tandem get`: objects as a table, as YAML or as JSON. */
import { stringify } from 'yaml'
import type { KubeObject } from '../edge/kube/api.ts'
import { Informer } from '../edge/kube/informer.ts'
import { withArguments } from '../embedded/cli/args.ts'
import { NAMESPACE_FLAG, STATE_FLAG, openTarget } from '../embedded/cli/connection.ts'
import { columnsOf, parseSelections } from '../embedded/cli/kinds.ts'
import type { Selection } from '../embedded/cli/kinds.ts'
import { objectTable } from '../embedded/cli/table.ts'
import type { KubeApi, ListOptions } from '../edge/kube/api.ts'

export function run(args: readonly string[]): Promise<number> {
  return withArguments(
    {
      verb: 'get',
      summary: 'list objects, or print some',
      operands: 'KIND [NAME…] | KIND/NAME…',
      operandsMin: 1,
      operandsMax: Infinity,
      flags: {
        state: STATE_FLAG,
        namespace: NAMESPACE_FLAG,
        'all-namespaces': { kind: 'switch', short: 'A', meaning: 'of all namespaces' },
        output: {
          kind: 'text',
          short: 'o',
          value: 'FORM',
          choices: ['wide', 'yaml', 'json', 'name'],
          meaning: 'form of the output',
        },
        selector: { kind: 'text', short: 'l', value: 'LABELS', meaning: 'only objects with these labels' },
        watch: { kind: 'switch', short: 'w', meaning: 'go on, one line for each change' },
      },
      notes:
        'KIND is fp (FilerPair), fv (FilerVolume), mir (Mirror), conv (Conversion), a built-in kind such as pods or events, several with commas, or `tandem`: all of ours.',
    },
    args,
    async (parsed) => {
      const selections = parseSelections(parsed.operands)
      const { api, namespace } = await openTarget(parsed)
      const allNamespaces = parsed.has('all-namespaces')
      const selector = parsed.text('selector')
      const options = {
        ...(allNamespaces ? {} : { namespace }),
        ...(selector === undefined ? {} : { labelSelector: selector }),
      }
      const output = parsed.text('output')
      const found: { selection: Selection; objects: KubeObject[] }[] = []
      for (const selection of selections)
        found.push({ selection, objects: await fetch(api, selection, namespace, options) })
      const objects = found.flatMap((entry) => entry.objects)
      if (output === 'json' || output === 'yaml') {
        const single = objects.length === 1 && selections.every((selection) => selection.names.length > 0)
        const value = single ? objects[0] : { apiVersion: 'v1', kind: 'List', items: objects }
        console.log(output === 'json' ? JSON.stringify(value, undefined, 2) : stringify(value).trimEnd())
        return 0
      }
      const tableOptions = { wide: output === 'wide', namespaces: allNamespaces, nowMs: Date.now() }
      const blocks: string[] = []
      for (const { selection, objects: own } of found) {
        if (own.length === 0) continue
        blocks.push(
          output === 'name'
            ? own
                .map((object) => `${selection.resource.kind.toLowerCase()}/${object.metadata.name}`)
                .join('\n')
            : objectTable(own, columnsOf(selection.resource), tableOptions),
        )
      }
      if (blocks.length > 0) console.log(blocks.join(output === 'name' ? '\n' : '\n\n'))
      else console.error(`no objects found${allNamespaces ? '' : ` in namespace ${namespace}`}`)
      if (parsed.has('watch')) await watch(api, selections[0]!, options, output === 'wide', objects)
      return 0
    },
  )
}

async function fetch(
  api: KubeApi,
  { resource, names }: Selection,
  namespace: string,
  options: ListOptions,
): Promise<KubeObject[]> {
  if (names.length > 0) return Promise.all(names.map((name) => api.get(resource, namespace, name)))
  const { namespace: inNamespace, ...rest } = options
  const { items } = await api.list(
    resource,
    resource.namespaced && inNamespace !== undefined ? { ...rest, namespace: inNamespace } : rest,
  )
  return items.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
}

async function watch(
  api: KubeApi,
  { resource, names }: Selection,
  options: ListOptions,
  wide: boolean,
  shown: readonly KubeObject[],
): Promise<void> {
  const versions = new Set(shown.map((object) => object.metadata.resourceVersion))
  const informer = new Informer(api, resource, {
    ...options,
    onChange: (now) => {
      if (now === undefined || versions.has(now.metadata.resourceVersion)) return
      if (names.length > 0 && !names.includes(now.metadata.name)) return
      const text = objectTable([now], columnsOf(resource), {
        wide,
        namespaces: options.namespace === undefined,
        nowMs: Date.now(),
      })
      console.log(text.split('\n').at(-1))
    },
  })
  await informer.start()
  await new Promise<void>((resolve) => process.once('SIGINT', () => resolve()))
  await informer.stop()
}

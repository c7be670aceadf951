/** The store of an embedded instance, served on a socket, for tests of what the command line says to it; the operator's part is the test's. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kinds } from '../../../api/v1alpha1/kinds.ts'
import type { KubeObject, Resource } from '../../../edge/kube/api.ts'
import { KubeClient } from '../../../edge/kube/client.ts'
import { Informer } from '../../../edge/kube/informer.ts'
import { storeServer } from '../../store/server.ts'
import { Store } from '../../store/store.ts'

export interface StoreBed {
  readonly api: KubeClient
  end(): Promise<void>
}

/** `onChange` sees every object of the resource in namespace `n`, each time that it changes. */
export async function startStore(
  resource: Resource,
  onChange: (api: KubeClient, object: KubeObject | undefined) => void,
): Promise<StoreBed> {
  const folder = mkdtempSync(join(tmpdir(), 'tandem-orders-'))
  const store = await Store.open(folder, kinds, (error) => {
    throw error
  })
  const server = storeServer(store, () => undefined)
  const socket = join(folder, 's')
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  const api = new KubeClient({ server: `unix:${socket}` }, { fieldManager: 'test' })
  const informer = new Informer(api, resource, {
    namespace: 'n',
    onChange: (object) => onChange(api, object),
    onError: () => undefined,
  })
  await informer.start()
  return {
    api,
    end: async () => {
      await informer.stop()
      api.close()
      server.close()
      server.closeAllConnections()
      await store.close()
      rmSync(folder, { recursive: true })
    },
  }
}

/** Whether a node is there, asked only when a person gives up what a filer on it may still have. */
import type { KubeApi } from '../edge/kube/api.ts'
import { KubeError } from '../edge/kube/api.ts'
import { NODES } from '../edge/kube/resources.ts'

export class Nodes {
  readonly #api: KubeApi

  constructor(api: KubeApi) {
    this.#api = api
  }

  /** undefined: not known. A node that is not there says nothing about what runs on the machine. */
  async isReady(name: string | undefined): Promise<boolean | undefined> {
    if (name === undefined) return undefined
    try {
      const { conditions = [] } = ((await this.#api.get(NODES, '', name))['status'] ?? {}) as {
        conditions?: { type: string; status: string }[]
      }
      const ready = conditions.find((c) => c.type === 'Ready')
      return ready === undefined ? undefined : ready.status === 'True'
    } catch (error) {
      // Gone, or (with watchNamespaces) not ours to ask.
      if (error instanceof KubeError && (error.code === 404 || error.code === 403)) return undefined
      throw error
    }
  }
}

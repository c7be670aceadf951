import { conformance } from './testing/conformance.ts'
import { Loopback } from './testing/loopback.ts'
import { MemoryVfs } from './testing/memory-vfs.ts'

for (const delayed of [false, true])
  conformance(`NFSv3 over TCP, a file system that answers ${delayed ? 'later' : 'at once'}`, async () => {
    const loopback = await Loopback.start(new MemoryVfs({ delayed }))
    return { client: loopback.client(), path: '/memory', close: () => loopback.close() }
  })

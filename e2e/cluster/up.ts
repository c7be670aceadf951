/**
 * up.ts [IMAGE.tar…]: a two-node test cluster for a look by hand. Opens a shell in which kubectl works; the cluster ends
 * with that shell.
 */
import { once } from 'node:events'
import { Cluster, shell } from './cluster.ts'

const began = performance.now()
const say = (text: string): void =>
  console.log(`${((performance.now() - began) / 1000).toFixed(1)} s: ${text}`)
const cluster = await Cluster.start({ images: process.argv.slice(2), progress: say })
try {
  console.log(await cluster.k('get', 'nodes', '-o', 'wide'))
  console.log('kubectl works in this shell; `exit` ends the cluster')
  await once(shell(cluster), 'exit')
} finally {
  await cluster.stop()
}

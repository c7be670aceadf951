/**
 * What tests start in place of a filer: ready at once, answers each connection that it is handed with one line that names it, its
 * environment and the files it found, and ends with status 0 on SIGTERM.
 */
import { existsSync, readFileSync, readdirSync, realpathSync } from 'node:fs'
import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import { join } from 'node:path'

const root = process.argv[process.argv.indexOf('--root') + 1] ?? ''
const DEVICES = 'var/lib/tandem/devices'
const read = (path: string): string | undefined =>
  existsSync(join(root, path)) ? readFileSync(join(root, path), 'utf8') : undefined

createServer((_request, response) => response.end('ok')).listen(9400, process.env['POD_IP'])
process.on('disconnect', () => process.exit(1))
process.on('SIGTERM', () => process.exit(0))
process.on('message', (message: { type: string; id: number; service: string }, socket: Socket) => {
  socket.on('error', () => undefined)
  process.send?.({ type: 'taken', id: message.id })
  socket.end(
    `${JSON.stringify({
      pod: process.env['POD_NAME'],
      pid: process.pid,
      service: message.service,
      addresses: JSON.parse(process.env['TANDEM_ADDRESSES'] ?? '{}') as unknown,
      secret: read('etc/tandem/tls/tls.crt'),
      log: existsSync(join(root, 'var/lib/tandem/log'))
        ? realpathSync(join(root, 'var/lib/tandem/log'))
        : undefined,
      devices: existsSync(join(root, DEVICES)) ? readdirSync(join(root, DEVICES)).sort() : [],
    })}\n`,
  )
})

import { describe, expect, test } from '@jest/globals'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const checkout = join(import.meta.dirname, '..')
const read = (path: string): string => readFileSync(join(checkout, path), 'utf8')
const dockerfile = read('Dockerfile')
const config = JSON.parse(read('e2e/image/config.json')) as {
  User: string
  Env: string[]
  WorkingDir: string
  Entrypoint: string[]
}
const listed = read('e2e/image/files.txt')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))

/** Arguments of an instruction in the last stage. */
const last = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '))
const instruction = (name: string): string | undefined => new RegExp(`^${name} (.*)$`, 'm').exec(last)?.[1]

describe('the Dockerfile and the image made by hand are the same image', () => {
  test('both are laid out by the same script, and its result is all that the last stage has', () => {
    expect(dockerfile).toContain('RUN e2e/image/rootfs.sh /app /usr/local/bin/node /rootfs')
    expect(read('e2e/image/build.sh')).toContain('rootfs.sh"')
    expect(last.match(/^COPY .*$/gm)).toEqual(['COPY --from=build /rootfs/ /'])
    expect(last).toContain('FROM scratch')
  })

  test('the Dockerfile copies exactly the listed files, and what the script itself needs', () => {
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap((match) =>
      match[1]!.split(' '),
    )
    expect(copied.sort()).toEqual([...listed, 'package-lock.json', 'e2e/image'].sort())
    for (const path of copied) expect(existsSync(join(checkout, path))).toBe(true)
  })

  test('user, environment, folder and entry point are equal', () => {
    expect(instruction('USER')).toBe(config.User)
    expect(instruction('WORKDIR')).toBe(config.WorkingDir)
    expect(instruction('ENV')).toBe(config.Env.join(' '))
    expect(JSON.parse(instruction('ENTRYPOINT')!)).toEqual(config.Entrypoint)
  })

  test('the image’s user is not root, and its Node has the major version that package.json asks for', () => {
    expect(config.User).toBe('64000:64000')
    const major = /FROM node:(\d+)-/.exec(dockerfile)?.[1]
    expect((JSON.parse(read('package.json')) as { engines: { node: string } }).engines.node).toBe(
      `>=${major}`,
    )
  })
})

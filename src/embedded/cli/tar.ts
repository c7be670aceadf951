/** A POSIX (ustar) archive of texts. Pure. */
const BLOCK = 512

export function tar(files: ReadonlyMap<string, string>, seconds: number): Buffer {
  const parts: Buffer[] = []
  for (const [name, text] of files) {
    const content = Buffer.from(text)
    const padding = Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)
    parts.push(header(name, content.length, seconds), content, padding)
  }
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)])
}

function header(name: string, bytes: number, seconds: number): Buffer {
  if (Buffer.byteLength(name) > 100) throw new Error(`a name of more than 100 bytes: ${name}`)
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, '0')
  block.write(name, 0)
  block.write(octal(0o644, 7), 100)
  block.write(octal(0, 7), 108)
  block.write(octal(0, 7), 116)
  block.write(octal(bytes, 11), 124)
  block.write(octal(seconds, 11), 136)
  // The checksum counts itself as blanks.
  block.write(' '.repeat(8), 148)
  block.write('0', 156)
  block.write('ustar\0' + '00', 257)
  block.write(
    `${octal(
      block.reduce((sum, byte) => sum + byte, 0),
      6,
    )}\0 `,
    148,
  )
  return block
}

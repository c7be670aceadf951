/**
 * JSON as ASCII bytes, for small control records (mailbox, messages between the two filers, volume properties): the centre has
 * no text encoder, so everything above 0x7e is escaped.
 */
export function encodeJson(value: unknown): Uint8Array {
  const text = JSON.stringify(value)
  let ascii = ''
  for (let n = 0; n < text.length; n++) {
    const code = text.charCodeAt(n)
    ascii += code < 0x7f ? text[n]! : `\\u${code.toString(16).padStart(4, '0')}`
  }
  const bytes = new Uint8Array(ascii.length)
  for (let n = 0; n < ascii.length; n++) bytes[n] = ascii.charCodeAt(n)
  return bytes
}

/** Undefined when it is not JSON. The shape is the caller's to check. */
export function decodeJson(bytes: Uint8Array): unknown {
  let text = ''
  for (const byte of bytes) text += String.fromCharCode(byte)
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

export function asciiBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length)
  for (let n = 0; n < text.length; n++) bytes[n] = text.charCodeAt(n) & 0xff
  return bytes
}

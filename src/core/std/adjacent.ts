/** Views that lie one behind the other in the same memory, as one: each view costs its way through the host, whatever its length. */
export function adjacent(before: Uint8Array, after: Uint8Array): boolean {
  return before.buffer === after.buffer && before.byteOffset + before.byteLength === after.byteOffset
}

/** The same bytes in as few views as they lie in. */
export function inRuns(views: readonly Uint8Array[]): Uint8Array[] {
  const runs: Uint8Array[] = []
  for (let from = 0; from < views.length;) {
    const first = views[from]!
    let bytes = first.byteLength
    let to = from + 1
    for (; to < views.length && adjacent(views[to - 1]!, views[to]!); to++) bytes += views[to]!.byteLength
    runs.push(to === from + 1 ? first : new Uint8Array(first.buffer, first.byteOffset, bytes))
    from = to
  }
  return runs
}

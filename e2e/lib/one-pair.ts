/** Manifests of the pair `east` with the volume `home`, which everybody may mount: for tests that run one pair in the embedded mode. */
export interface OnePair {
  readonly devices: { readonly count: number; readonly size: string }
  readonly log: string
  readonly cache: string
  readonly volume: string
  /** More of the pair's spec, a field a line. */
  readonly spec?: readonly string[]
}

export const onePair = ({ devices, log, cache, volume, spec = [] }: OnePair): string => `
apiVersion: tandem.storage/v1alpha1
kind: FilerPair
metadata: { name: east }
spec:
  aggregates:
    - { name: aggr1, filer: a, deviceSets: [{ name: d, count: ${devices.count}, size: ${devices.size} }] }
  log: { size: ${log} }
  cacheSize: ${cache}
  placement: { spread: Preferred }
${spec.map((line) => `  ${line}\n`).join('')}---
apiVersion: tandem.storage/v1alpha1
kind: FilerVolume
metadata: { name: home }
spec:
  pairName: east
  aggregate: aggr1
  size: ${volume}
  export: { rules: [{ clients: [0.0.0.0/0], access: ReadWrite, squash: None }] }
`

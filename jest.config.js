/**
 * Unit, property and simulation tests; those that need root, a cluster or minutes have targets of their own (see Makefile). `*.deep.test.ts` are those that
 * need more than about ten seconds: `make deep` runs them alone, with DEEP set.
 */
export default {
  testEnvironment: 'node',
  roots: ['<rootDir>/src', '<rootDir>/scripts'],
  testMatch: [process.env.DEEP ? '**/*.deep.test.ts' : '**/*.test.ts'],
  testPathIgnorePatterns: ['/node_modules/', ...(process.env.DEEP ? [] : ['\\.deep\\.test\\.ts$'])],
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: { parser: { syntax: 'typescript' }, target: 'es2023' },
        module: { type: 'es6' },
        sourceMaps: 'inline',
      },
    ],
  },
  maxWorkers: 2,
  testTimeout: 120000,
}

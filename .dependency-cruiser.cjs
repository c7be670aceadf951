/** Who may import whom. The centre is pure; the edge and the commands wire it to the machine. */
const no = (name, from, to, comment) => ({ name, severity: 'error', comment, from, to })
const test = '[.](test|api)[.]ts$|/testing/'
module.exports = {
  forbidden: [
    no('no-cycles', {}, { circular: true }, 'A cycle hides which module is the lower one.'),
    no(
      'core-is-pure',
      { path: '^src/core/', pathNot: test },
      { pathNot: '^src/core/' },
      'The centre gets clock, devices and network handed in.',
    ),
    no(
      'nfs-knows-no-blocks',
      { path: '^src/nfs/', pathNot: test },
      { path: '^src/(edge|operator|api|proto|cmd|sim|embedded)|^src/core/(?!std|vfs|env)' },
      'The protocol speaks to the Vfs interface only.',
    ),
    no(
      'api-is-a-leaf',
      { path: '^src/api/', pathNot: test },
      { path: '^src/(?!api|core/std)' },
      'The API source depends on nothing.',
    ),
    no(
      'operator-not-filer',
      { path: '^src/operator/', pathNot: test },
      { path: '^src/(nfs|sim|cmd|embedded)|^src/core/(?!std|env)' },
      'The operator plans; it never reaches into a filer.',
    ),
    no(
      'filer-light',
      { path: '^src/(core|nfs|edge/(node|grpc|filer))/' },
      { path: '@kubernetes/client-node' },
      'A filer talks to two or three objects; it does not load the typed client.',
    ),
    no(
      'edge-not-up',
      { path: '^src/edge/', pathNot: test },
      { path: '^src/(cmd|sim|operator|embedded)' },
      'The edge is below the commands.',
    ),
    no(
      'nobody-imports-cmd',
      { path: '^src/(?!cmd|main)', pathNot: test },
      { path: '^src/cmd/' },
      'Commands are wiring only.',
    ),
    no('no-unknown', {}, { couldNotResolve: true, pathNot: '^node:' }, 'An import that resolves nowhere.'),
    no(
      'no-dev-deps',
      { path: '^src', pathNot: test },
      { dependencyTypes: ['npm-dev'] },
      'What runs must be a dependency.',
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.mjs', '.cjs', '.json'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default'],
    },
  },
}

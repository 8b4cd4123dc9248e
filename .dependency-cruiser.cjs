// The table of packages in docs/architecture.md: import only strictly lower layers, never sideways.
const layers = [
  ['base'],
  ['model'],
  ['manifest', 'decide', 'plan', 'netlink', 'trace', 'identity'],
  ['diff'],
  ['store', 'rpc', 'kernel', 'runtime', 'dns'],
  ['manager', 'agent', 'cli'],
  ['main'],
];

const upward = layers.flatMap((rooms, layer) =>
  rooms.map((room) => {
    const lower = layers.slice(0, layer).flat();
    const allowed = [...lower, room].join('|');
    return {
      name: `${room}-imports-only-lower-layers`,
      severity: 'error',
      from: { path: `^src/${room}/`, pathNot: '\\.test\\.ts$' },
      to: { path: '^src/', pathNot: `^src/(${allowed})/` },
    };
  }),
);

const unlisted = { path: '^src/', pathNot: `^src/(${layers.flat().join('|')})/` };

module.exports = {
  forbidden: [
    ...upward,
    // A folder that the table does not list would be under no rule at all. Modules with imports, then those without.
    { name: 'every-folder-has-a-layer', severity: 'error', from: unlisted, to: {} },
    { name: 'every-folder-has-a-layer', severity: 'error', from: { ...unlisted, orphan: true }, to: {} },
    {
      name: 'leading-does-not-import-serving',
      comment: 'one manager of several leads; what it decides must not depend on who serves',
      severity: 'error',
      from: { path: '^src/manager/leading/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/manager/(?!leading/)' },
    },
    {
      name: 'serving-imports-only-the-interface-of-leading',
      severity: 'error',
      from: { path: '^src/manager/serving/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/manager/(?!serving/)', pathNot: '^src/manager/leading/(leader|cluster-view)\\.ts$' },
    },
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'model-kernel-has-rules-of-its-own',
      comment: 'it is the oracle for the dependencies in model/kinds and the order in diff',
      severity: 'error',
      from: { path: '^src/kernel/(model|kinds)/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/(diff/|model/kinds/(things|stages|dependencies)\\.ts)' },
    },
    {
      name: 'native-only-from-kernel',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/kernel/' },
      to: { path: '^native/' },
    },
    {
      name: 'pure-layers-have-no-io',
      comment: 'base/log and base/clock are the two doors; hashing is arithmetic',
      severity: 'error',
      from: { path: '^src/(base|model|manifest|decide|plan|netlink|bpf|trace|identity|diff)/', pathNot: '(\\.test\\.ts|^src/base/(log|clock)\\.ts)$' },
      to: { dependencyTypes: ['core'], pathNot: '^(node:)?crypto$' },
    },
    {
      name: 'tests-are-not-imported',
      severity: 'error',
      from: { path: '^src/', pathNot: '\\.test\\.ts$' },
      to: { path: '\\.test\\.ts$' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^src/rpc/gen/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] },
  },
};

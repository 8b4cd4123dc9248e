// Builds dist/: generated message types, the bundles of meshd and meshctl, and the native binaries.
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { build } from 'esbuild';
import { generate } from './generate.mjs';

const root = import.meta.dirname;
const version = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')).version;

generate();

mkdirSync(`${root}/dist`, { recursive: true });
const scripts = process.argv
  .slice(2)
  .map((path) => ({ in: path, out: path.replace(/^.*\//, '').replace(/\.ts$/, '') }));

const common = {
  outdir: `${root}/dist`,
  bundle: true,
  platform: 'node',
  target: 'node24',
  define: { MESHD_VERSION: JSON.stringify(version) },
  // Comments are most of some libraries, and read at each start. Names stay: a stack trace is what a bug report has.
  minifyWhitespace: true,
  minifySyntax: true,
  lineLimit: 160,
  logLevel: 'warning',
};

await build({
  ...common,
  entryPoints: [{ in: `${root}/src/main/meshd.ts`, out: 'meshd' }, ...scripts],
  outExtension: { '.js': '.mjs' },
  splitting: true, // what a role does not use is not parsed when it starts
  format: 'esm',
  // The first finds its prebuilt binary relative to its own package; grpc-js wants the other for services we do not have.
  external: ['classic-level', '@grpc/proto-loader'],
  // CommonJS packages inside an ES module bundle still call require().
  banner: {
    js: "#!/usr/bin/env node\nimport { createRequire as meshRequire } from 'node:module'; const require = meshRequire(import.meta.url);",
  },
  chunkNames: 'chunks/[hash]',
});
await buildMeshctl();

/** Two scripts, because Node's compile cache holds what is loaded after it was enabled (src/main/meshctl.ts). */
async function buildMeshctl() {
  const commands = {
    name: 'commands',
    setup({ onResolve }) {
      onResolve({ filter: /\/meshctl-cli\.ts$/, namespace: 'file' }, ({ kind }) =>
        kind === 'entry-point' ? undefined : { path: './meshctl-cli.cjs', external: true },
      );
    },
  };
  await build({
    ...common,
    entryPoints: ['meshctl', 'meshctl-cli'].map((name) => ({ in: `${root}/src/main/${name}.ts`, out: name })),
    outExtension: { '.js': '.cjs' },
    format: 'cjs', // loading ES modules takes longer than loading one script
    supported: { 'dynamic-import': false },
    plugins: [commands],
    banner: { js: '#!/usr/bin/env node' },
  });
}

for (const name of ['meshd.mjs', 'meshctl.cjs']) chmodSync(`${root}/dist/${name}`, 0o755);
for (const file of ['mesh.node', 'mesh-task']) {
  const built = `${root}/native/build/Release/${file}`;
  if (!existsSync(built)) continue;
  // Renamed into place: what runs from the old file goes on with it.
  copyFileSync(built, `${root}/dist/.${file}`);
  renameSync(`${root}/dist/.${file}`, `${root}/dist/${file}`);
}

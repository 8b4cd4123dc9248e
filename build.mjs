// Builds dist/: generated message types, the bundles of meshd and meshctl, and the native binaries.
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname } from 'node:path';
import { build, transform } from 'esbuild';
import { generate, literalDescriptors } from './generate.mjs';

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

/**
 * Modules of Node are required, not imported: an import reads every property of the module, and those of node:http and
 * node:process load fetch and the standard streams with it (a fifth of what the start of meshd costs).
 */
const builtins = {
  name: 'builtins',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^[a-z]/ }, ({ path, kind, namespace }) => {
      if (!isBuiltin(path)) return undefined;
      return kind === 'require-call' || namespace === 'builtin'
        ? { path, external: true }
        : { path, namespace: 'builtin' };
    });
    onLoad({ filter: /^/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)})`,
    }));
  },
};

await build({
  ...common,
  plugins: [literalDescriptors, builtins],
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

/**
 * A script that enables Node's compile cache, which holds what is loaded after that (src/main/meshctl.ts), and the commands,
 * of which only what one needs is read. As CommonJS, which requires modules of Node anyway: Node's loader of ES modules costs
 * a command 25 ms more. Only ES modules are split by esbuild, so each is translated afterwards.
 */
async function buildMeshctl() {
  const cjs = { ...common, format: 'cjs', supported: { 'dynamic-import': false } };
  const banner = { js: '#!/usr/bin/env node' };
  const commands = {
    name: 'commands',
    setup: ({ onResolve }) =>
      onResolve({ filter: /\/meshctl-cli\.ts$/ }, () => ({ path: './meshctl-cli.cjs', external: true })),
  };
  await build({
    ...cjs,
    entryPoints: [`${root}/src/main/meshctl.ts`],
    outExtension: { '.js': '.cjs' },
    plugins: [commands],
    banner,
  });
  const { outputFiles } = await build({
    ...common,
    entryPoints: [`${root}/src/main/meshctl-cli.ts`],
    outExtension: { '.js': '.cjs' },
    plugins: [literalDescriptors],
    // Commander loads it for verbs that are programs of their own, which we do not have.
    alias: { 'node:child_process': 'data:text/javascript,' },
    splitting: true,
    format: 'esm',
    chunkNames: 'meshctl/[hash]',
    write: false,
  });
  const { outdir, bundle, define, ...translation } = cjs;
  for (const { path, text } of outputFiles) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, (await transform(text, translation)).code);
  }
}

for (const name of ['meshd.mjs', 'meshctl.cjs']) chmodSync(`${root}/dist/${name}`, 0o755);
// Of libbpf, libelf and zlib, which mesh.node contains.
cpSync(`${root}/native/licenses`, `${root}/dist/licenses`, { recursive: true });
const release = `${root}/native/build/Release`;
const objects = existsSync(release) ? readdirSync(release).filter((file) => file.endsWith('.bpf.o')) : [];
for (const file of ['mesh.node', 'mesh-task', ...objects]) {
  const built = `${release}/${file}`;
  if (!existsSync(built)) continue;
  // Renamed into place: processes that run the old file keep using it.
  copyFileSync(built, `${root}/dist/.${file}`);
  renameSync(`${root}/dist/.${file}`, `${root}/dist/${file}`);
}

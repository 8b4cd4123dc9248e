// Builds dist/: generated gRPC types, the two programs as bundles, and the native parts beside them.
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { build } from 'esbuild';

const root = import.meta.dirname;
const version = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')).version;

/** True when `output` is missing or older than `input`. */
function stale(output, input) {
  return !existsSync(output) || statSync(output).mtimeMs < statSync(input).mtimeMs;
}

if (['mesh.proto', 'buf.gen.yaml'].some((input) => stale(`${root}/src/rpc/gen/mesh.ts`, `${root}/src/rpc/${input}`))) {
  execFileSync(`${root}/node_modules/.bin/buf`, ['generate', '--template', 'buf.gen.yaml'], {
    cwd: `${root}/src/rpc`,
    stdio: 'inherit',
  });
}

mkdirSync(`${root}/dist`, { recursive: true });
const programs = ['meshd', 'meshctl'].map((name) => ({ in: `${root}/src/main/${name}.ts`, out: name }));
const scripts = process.argv
  .slice(2)
  .map((path) => ({ in: path, out: path.replace(/^.*\//, '').replace(/\.ts$/, '') }));

await build({
  entryPoints: [...programs.filter((p) => existsSync(p.in)), ...scripts],
  outdir: `${root}/dist`,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  splitting: true, // what a verb does not use is not parsed when it starts
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: ['classic-level'], // finds its prebuilt binary relative to its own package
  define: { MESHD_VERSION: JSON.stringify(version) },
  // CommonJS packages inside an ES module bundle still call require().
  banner: {
    js: "#!/usr/bin/env node\nimport { createRequire as meshRequire } from 'node:module'; const require = meshRequire(import.meta.url);",
  },
  chunkNames: 'chunks/[hash]',
  // Comments are most of some libraries, and read at each start. Names stay: a stack trace is what a bug report has.
  minifyWhitespace: true,
  minifySyntax: true,
  lineLimit: 160,
  sourcemap: false,
  logLevel: 'warning',
});

for (const name of ['meshd', 'meshctl']) {
  if (existsSync(`${root}/dist/${name}.mjs`)) chmodSync(`${root}/dist/${name}.mjs`, 0o755);
}
for (const file of ['mesh.node', 'mesh-task']) {
  const built = `${root}/native/build/Release/${file}`;
  if (!existsSync(built)) continue;
  // Renamed into place: what runs from the old file goes on with it.
  copyFileSync(built, `${root}/dist/.${file}`);
  renameSync(`${root}/dist/.${file}`, `${root}/dist/${file}`);
}

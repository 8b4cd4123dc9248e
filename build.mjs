// Builds dist/: generated gRPC types, the bundles of meshd and meshctl, and the native binaries.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Script } from 'node:vm';
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
const scripts = process.argv
  .slice(2)
  .map((path) => ({ in: path, out: path.replace(/^.*\//, '').replace(/\.ts$/, '') }));

const common = {
  outdir: `${root}/dist`,
  bundle: true,
  platform: 'node',
  target: 'node24',
  define: { MESHD_VERSION: JSON.stringify(version) },
  // Comments make up most of some libraries and are parsed at each start. Names are kept for readable stack traces.
  minifyWhitespace: true,
  minifySyntax: true,
  lineLimit: 160,
  logLevel: 'warning',
};

await build({
  ...common,
  entryPoints: [{ in: `${root}/src/main/meshd.ts`, out: 'meshd' }, ...scripts],
  outExtension: { '.js': '.mjs' },
  splitting: true, // modules that a role does not use are not parsed at startup
  format: 'esm',
  // The first locates its prebuilt binary relative to its own package; grpc-js needs the other only for services unused here.
  external: ['classic-level', '@grpc/proto-loader'],
  // CommonJS packages inside an ES module bundle still call require().
  banner: {
    js: "#!/usr/bin/env node\nimport { createRequire as meshRequire } from 'node:module'; const require = meshRequire(import.meta.url);",
  },
  chunkNames: 'chunks/[hash]',
});
await buildMeshctl();

/** Builds the launcher (src/main/meshctl-launch.ts) as one script, and its V8 code cache. */
async function buildMeshctl() {
  const entry = (name, out) => ({
    ...common,
    format: 'cjs',
    entryPoints: [{ in: `${root}/src/main/${name}.ts`, out }],
  });
  rmSync(`${root}/dist/meshctl.compiled`, { force: true }); // V8 identifies a script by its length alone
  await build({
    ...entry('meshctl-launch', 'meshctl'),
    outExtension: { '.js': '.cjs' },
    banner: { js: '#!/usr/bin/env node' },
  });
  await build({
    ...entry('meshctl', 'meshctl'),
    alias: { 'node:child_process': `${root}/src/main/no-child-process.ts` },
    outExtension: { '.js': '.script' },
    banner: { js: '(function (module, require) {' },
    footer: { js: 'return module.exports; })' },
  });
  const filename = `${root}/dist/meshctl.script`;
  const script = new Script(readFileSync(filename, 'latin1'), { filename });
  const { runMeshctl } = script.runInThisContext()({ exports: {} }, createRequire(filename));
  // The code cache contains functions that have run: all verbs are declared, and one runs against a fake meshd.
  const directory = mkdtempSync(join(tmpdir(), 'meshctl-'));
  const frame = (flags, text) => Buffer.from([flags, 0, 0, 0, text.length, ...Buffer.from(text)]);
  const meshd = createServer((request, response) => {
    request.resume().on('end', () => response.end(Buffer.concat([frame(0, ''), frame(0x80, 'grpc-status: 0\r\n')])));
  });
  await once(meshd.listen(join(directory, 'socket')), 'listening');
  const io = { out() {}, err() {}, environment: {}, columns: 80 };
  const status = await runMeshctl(['--host', join(directory, 'socket'), 'service', 'scale', '--detach', 'web=1'], io);
  if (status !== 0) throw new Error(`meshctl exited with status ${status} while its code cache was built`);
  meshd.close();
  rmSync(directory, { recursive: true });
  writeFileSync(`${root}/dist/meshctl.compiled`, script.createCachedData());
}

for (const name of ['meshd.mjs', 'meshctl.cjs']) chmodSync(`${root}/dist/${name}`, 0o755);
for (const file of ['mesh.node', 'mesh-task']) {
  const built = `${root}/native/build/Release/${file}`;
  if (!existsSync(built)) continue;
  // Replaced by rename, so that a running process keeps using the old file.
  copyFileSync(built, `${root}/dist/.${file}`);
  renameSync(`${root}/dist/.${file}`, `${root}/dist/${file}`);
}

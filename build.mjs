// Builds dist/: generated gRPC types, the two programs as bundles, and the native parts beside them.
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

/** A launcher (src/main/meshctl-launch.ts), one script, and what V8 makes of it. */
async function buildMeshctl() {
  const entry = (name, out) => ({
    ...common,
    format: 'cjs',
    entryPoints: [{ in: `${root}/src/main/${name}.ts`, out }],
  });
  rmSync(`${root}/dist/meshctl.compiled`, { force: true }); // V8 knows a script by its length alone
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
  // Compiled is what has run: all verbs are declared, and one is carried out by a meshd that answers with nothing.
  const directory = mkdtempSync(join(tmpdir(), 'meshctl-'));
  const frame = (flags, text) => Buffer.from([flags, 0, 0, 0, text.length, ...Buffer.from(text)]);
  const meshd = createServer((request, response) => {
    request.resume().on('end', () => response.end(Buffer.concat([frame(0, ''), frame(0x80, 'grpc-status: 0\r\n')])));
  });
  await once(meshd.listen(join(directory, 'socket')), 'listening');
  const io = { out() {}, err() {}, environment: {}, columns: 80 };
  const status = await runMeshctl(['--host', join(directory, 'socket'), 'service', 'scale', '--detach', 'web=1'], io);
  if (status !== 0) throw new Error(`meshctl ended with ${status} while it was being compiled`);
  meshd.close();
  rmSync(directory, { recursive: true });
  writeFileSync(`${root}/dist/meshctl.compiled`, script.createCachedData());
}

for (const name of ['meshd.mjs', 'meshctl.cjs']) chmodSync(`${root}/dist/${name}`, 0o755);
for (const file of ['mesh.node', 'mesh-task']) {
  const built = `${root}/native/build/Release/${file}`;
  if (!existsSync(built)) continue;
  // Renamed into place: what runs from the old file goes on with it.
  copyFileSync(built, `${root}/dist/.${file}`);
  renameSync(`${root}/dist/.${file}`, `${root}/dist/${file}`);
}

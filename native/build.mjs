// Builds mesh.node (the addon) and mesh-task (the task shim) with node-gyp into build/Release.
// Does nothing if both are newer than every source. `--force` always builds.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, utimesSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const outputs = ['mesh.node', 'mesh-task'].map((name) => join(here, 'build/Release', name));

function sourceFiles() {
  const inDirectory = (name) => readdirSync(join(here, name)).map((file) => join(here, name, file));
  return [...inDirectory('addon'), ...inDirectory('task'), join(here, 'binding.gyp'), join(here, 'build.mjs')];
}

function upToDate() {
  if (!outputs.every((file) => existsSync(file))) return false;
  const oldest = Math.min(...outputs.map((file) => statSync(file).mtimeMs));
  return sourceFiles().every((file) => statSync(file).mtimeMs <= oldest);
}

function missingTools() {
  return ['python3', 'make', 'g++', 'gcc'].filter((tool) => spawnSync(tool, ['--version']).error !== undefined);
}

if (upToDate() && !process.argv.includes('--force')) {
  console.log('native: up to date');
  process.exit(0);
}
const missing = missingTools();
if (missing.length > 0) {
  console.error(`native: ${missing.join(', ')} not found; on Debian or Ubuntu: apt-get install build-essential python3`);
  process.exit(1);
}
// Node's headers are usually installed beside it; otherwise node-gyp would download them.
const prefix = dirname(dirname(process.execPath));
const nodedir = existsSync(join(prefix, 'include/node/node.h')) ? [`--nodedir=${prefix}`] : [];
const gyp = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
console.log(
  `native: building with node-gyp, headers ${nodedir.length > 0 ? `of ${prefix}/include/node` : 'downloaded by node-gyp'}`,
);
const started = Date.now();
const run = spawnSync(process.execPath, [gyp, 'configure', 'build', '--jobs=max', '--loglevel=warn', ...nodedir], {
  cwd: here,
  stdio: 'inherit',
});
if (run.status !== 0) process.exit(run.status ?? 1);
// make skips unchanged outputs; the comparison above needs both to be newer than the sources.
for (const file of outputs) utimesSync(file, new Date(), new Date());
console.log(`native: built ${outputs.join(' and ')} in ${((Date.now() - started) / 1000).toFixed(1)} s`);

// Builds mesh.node (the addon) and mesh-task (the task shim) with node-gyp, and the BPF programs with clang, into
// build/Release. Does nothing if all are newer than every source. `--force` always builds.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, utimesSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const release = join(here, 'build/Release');
const programs = readdirSync(join(here, 'bpf'))
  .filter((file) => file.endsWith('.bpf.c'))
  .map((file) => ({ source: join(here, 'bpf', file), output: join(release, file.replace(/c$/, 'o')) }));
const binaries = ['mesh.node', 'mesh-task'].map((name) => join(release, name));
const outputs = [...binaries, ...programs.map(({ output }) => output)];

function sourceFiles() {
  const inDirectory = (name) => readdirSync(join(here, name)).map((file) => join(here, name, file));
  return [
    ...['addon', 'task', 'bpf'].flatMap(inDirectory),
    join(here, 'binding.gyp'),
    join(here, 'build.mjs'),
  ];
}

function upToDate() {
  if (!outputs.every((file) => existsSync(file))) return false;
  const oldest = Math.min(...outputs.map((file) => statSync(file).mtimeMs));
  return sourceFiles().every((file) => statSync(file).mtimeMs <= oldest);
}

function missingTools() {
  return ['python3', 'make', 'g++', 'gcc', 'clang', 'pkg-config'].filter((tool) => spawnSync(tool, ['--version']).error !== undefined);
}

/** Exits if a compiler fails; it has printed why. */
function run(command, args) {
  const { status } = spawnSync(command, args, { cwd: here, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

/** -g is what BTF is made from: the types of maps and constants. Version 3 of the instruction set is Linux 5.1. */
function compilePrograms() {
  const target = spawnSync('gcc', ['-print-multiarch'], { encoding: 'utf8' }).stdout.trim();
  const flags = ['-g', '-O2', '-Wall', '-Wextra', '-Werror', '-target', 'bpf', '-mcpu=v3'];
  // Of <asm/types.h>, which is a directory of the machine's architecture.
  flags.push(`-I/usr/include/${target}`);
  for (const { source, output } of programs) run('clang', [...flags, '-c', source, '-o', output]);
}

if (upToDate() && !process.argv.includes('--force')) {
  console.log('native: up to date');
  process.exit(0);
}
const missing = missingTools();
if (missing.length > 0) {
  console.error(`native: ${missing.join(', ')} not found; on Debian or Ubuntu: apt-get install build-essential python3 clang pkg-config libbpf-dev`);
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
run(process.execPath, [gyp, 'configure', 'build', '--jobs=max', '--loglevel=warn', ...nodedir]);
compilePrograms();
// make skips unchanged outputs; the comparison above needs all to be newer than the sources.
for (const file of outputs) utimesSync(file, new Date(), new Date());
console.log(`native: built ${binaries.join(' and ')} and ${programs.length} BPF objects in ${((Date.now() - started) / 1000).toFixed(1)} s`);

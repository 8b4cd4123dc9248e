import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';

/*
 * Most commands end before V8's compilers behind the interpreter have earned what they cost, and the other threads that
 * clear few objects theirs: 40 ms of CPU of 240 (service ls). They start fifty times later than by default, so that a
 * long manifest still has them. Before that: Node's own modules come with code that V8 refuses once a flag differs.
 */
process.getBuiltinModule('node:http');
const calls = { maglev: 20_000, 'maglev-osr': 5_000, turbofan: 150_000, osr: 25_000, 'early-optimization': 1_500 };
for (const [compiler, count] of Object.entries(calls))
  setFlagsFromString(`--invocation-count-for-${compiler}=${count}`);
setFlagsFromString('--no-sparkplug');
setFlagsFromString('--no-parallel-scavenge');

/*
 * V8's code of the commands is kept on disk, for what is loaded after this call. Root's is kept where other users cannot
 * write, because its content is executed as root. Node runs without the cache if the directory cannot be used.
 */
enableCompileCache(cacheDirectory());
void import('./meshctl-cli.ts');

function cacheDirectory(): string {
  if (process.geteuid?.() === 0) return '/var/cache/meshd';
  const { XDG_CACHE_HOME, HOME = '/nonexistent' } = process.env;
  return join(XDG_CACHE_HOME || join(HOME, '.cache'), 'meshd');
}

import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';

/*
 * Most commands last 50 ms, of which compiling is the greatest part unless it is kept from happening. In this order:
 * Node's own modules come with code that V8 refuses once a flag differs; code that runs once is not worth the compilers
 * behind the interpreter, nor the few objects other threads to clear them (40 ms less CPU together).
 */
process.getBuiltinModule('node:http');
for (const compiler of ['sparkplug', 'maglev', 'opt']) setFlagsFromString(`--no-${compiler}`);
setFlagsFromString('--no-parallel-scavenge');

/*
 * V8's code of the commands is kept on disk, for what is loaded after this call. Root's is kept where other users cannot
 * write: whoever writes there decides what root runs. Node goes on without it where the directory cannot be used.
 */
enableCompileCache(cacheDirectory());
void import('./meshctl-cli.ts');

function cacheDirectory(): string {
  if (process.geteuid?.() === 0) return '/var/cache/meshd';
  const { XDG_CACHE_HOME, HOME = '/nonexistent' } = process.env;
  return join(XDG_CACHE_HOME || join(HOME, '.cache'), 'meshd');
}

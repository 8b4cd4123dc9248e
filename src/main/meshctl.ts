import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';

/*
 * Compiling the commands takes longer than running most of them, so V8's code is kept on disk, for what is loaded after
 * this call. Root's is kept where other users cannot write: whoever writes there decides what root runs. Node goes on
 * without it where the directory cannot be used.
 */
for (const tier of ['sparkplug', 'maglev', 'opt']) setFlagsFromString(`--no-${tier}`);
setFlagsFromString('--no-parallel-scavenge');
enableCompileCache(cacheDirectory());
void import('./meshctl-cli.ts');

function cacheDirectory(): string {
  if (process.geteuid?.() === 0) return '/var/cache/meshd';
  const { XDG_CACHE_HOME, HOME = '/nonexistent' } = process.env;
  return join(XDG_CACHE_HOME || join(HOME, '.cache'), 'meshd');
}

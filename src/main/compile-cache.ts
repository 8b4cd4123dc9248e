import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

/**
 * Keeps V8's code of what is loaded after this call on disk. Root's is kept where other users cannot write, because its
 * content is executed as root. `NODE_COMPILE_CACHE` names another directory. Node runs without the cache if the directory
 * cannot be used.
 */
export function keepCompiledCode(): void {
  enableCompileCache(process.env['NODE_COMPILE_CACHE'] ?? cacheDirectory());
}

function cacheDirectory(): string {
  if (process.geteuid?.() === 0) return '/var/cache/meshd';
  const { XDG_CACHE_HOME, HOME = '/nonexistent' } = process.env;
  return join(XDG_CACHE_HOME || join(HOME, '.cache'), 'meshd');
}

import type { Context } from '../context.ts';
import { renderJson } from '../text/json.ts';

/** `meshctl config FILE…`: the canonical form; works without meshd. */
export async function config({ io, format }: Context, files: string[]): Promise<number> {
  const { readManifests, renderManifest } = await import('../manifest-files.ts');
  const services = await readManifests(io, files, '');
  if (services === undefined) return 1;
  // The text of the user's own files: it has to read back as it was written.
  if (format === 'json') io.out(renderJson(services.map((spec) => ({ id: '', ...spec }))));
  else io.raw(renderManifest(services));
  return 0;
}

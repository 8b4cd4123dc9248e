import type { Context } from '../context.ts';
import { renderJson } from '../text/json.ts';

/** `meshctl config FILE…`: the canonical form, without asking any meshd. */
export async function config({ io, format }: Context, files: string[]): Promise<number> {
  const { readManifests, renderManifest } = await import('../manifest-files.ts');
  const services = await readManifests(io, files, '');
  if (services === undefined) return 1;
  io.out(format === 'json' ? renderJson(services.map((spec) => ({ id: '', ...spec }))) : renderManifest(services));
  return 0;
}

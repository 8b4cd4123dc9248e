import { renderManifest } from '../../manifest/render.ts';
import type { Context } from '../context.ts';
import { readManifests } from '../manifest-files.ts';
import { renderJson } from '../text/json.ts';

/** `meshctl config FILE…`: the canonical form, without asking any meshd. */
export async function config({ io, format }: Context, files: string[]): Promise<number> {
  const services = await readManifests(io, files, '');
  if (services === undefined) return 1;
  io.out(format === 'json' ? renderJson(services.map((spec) => ({ id: '', ...spec }))) : renderManifest(services));
  return 0;
}

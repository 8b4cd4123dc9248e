import { type ApplyOptions, reportAndWait } from '../apply-result.ts';
import type { Context } from '../context.ts';

/** `meshctl apply FILE…`: all files are one transaction. */
export async function apply(context: Context, files: string[], options: ApplyOptions): Promise<number> {
  const { readManifests } = await import('../manifest-files.ts');
  const services = await readManifests(context.io, files);
  if (services === undefined) return 1;
  const dryRun = options.dryRun === true;
  const reply = await (await context.api()).control.apply({ services: services, dryRun });
  return reportAndWait(context, reply.services, options);
}

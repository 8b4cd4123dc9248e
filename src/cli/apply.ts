import { specToWire } from '../rpc/convert-spec.ts';
import type { AppliedService } from '../rpc/gen/mesh.ts';
import type { Context } from './context.ts';
import { follow } from './follow.ts';
import type { Io } from './io.ts';
import { renderJson } from './json.ts';
import { readManifests } from './manifest-files.ts';
import { clean } from './table.ts';

export interface ApplyOptions {
  dryRun?: boolean;
  detach?: boolean;
  /** Milliseconds. */
  timeout?: number;
}

/** `meshctl apply FILE…`: all files are one transaction. */
export async function apply(context: Context, files: string[], options: ApplyOptions): Promise<number> {
  const services = await readManifests(context.io, files);
  if (services === undefined) return 1;
  const dryRun = options.dryRun === true;
  const reply = await (await context.api()).control.apply({ services: services.map(specToWire), dryRun });
  return report(context, reply.services, options);
}

/** Tells what became of services, then follows them; shared with `service scale` and `update`. */
export async function report(
  context: Context,
  services: readonly AppliedService[],
  options: ApplyOptions,
): Promise<number> {
  const { io, format } = context;
  if (format === 'table')
    io.out(services.map((service) => `${appliedText(service, options.dryRun === true)}\n`).join(''));
  tellWarnings(io, services);
  const follows = options.dryRun !== true && options.detach !== true && services.length > 0;
  const end = follows ? await follow(context, services, options.timeout) : undefined;
  if (format === 'json') {
    io.out(renderJson(services.map((row, index) => (end ? { ...row, converged: end.converged[index] } : row))));
  }
  return end?.status ?? 0;
}

/** `web updated (k3…): replicas 3 → 5` */
export function appliedText({ name, id, action, changes }: AppliedService, dryRun = false): string {
  const verb = dryRun ? (action === 'unchanged' ? 'would stay unchanged' : `would be ${action}`) : action;
  const which = dryRun || id === '' ? name : `${name} (${id})`;
  return clean(`service ${which} ${verb}${changes.length === 0 ? '' : `: ${changes.join(', ')}`}`);
}

/** What a person should know before it hurts; on standard error, whatever the format. */
export function tellWarnings(io: Io, services: readonly AppliedService[]): void {
  for (const { name, warnings } of services) {
    for (const warning of warnings) io.err(`meshctl: warning: ${clean(`service ${name}: ${warning}`)}\n`);
  }
}

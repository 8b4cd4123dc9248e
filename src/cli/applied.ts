import type { AppliedService } from '../rpc/gen/mesh.ts';
import type { Context } from './context.ts';
import type { Io } from './io.ts';
import { renderJson } from './json.ts';
import { clean } from './table.ts';

export interface ApplyOptions {
  dryRun?: boolean;
  detach?: boolean;
  /** Milliseconds. */
  timeout?: number;
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
  const end = follows ? await (await import('./follow.ts')).follow(context, services, options.timeout) : undefined;
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

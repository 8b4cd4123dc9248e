import type { AppliedService } from '../rpc/messages.ts';
import type { Context } from './context.ts';
import { waitForConvergence } from './convergence.ts';
import type { Io } from './io.ts';
import { renderJson } from './text/json.ts';
import { sanitize } from './text/table.ts';

export interface ApplyOptions {
  dryRun?: boolean;
  detach?: boolean;
  /** Milliseconds. */
  timeout?: number;
}

/** Tells what became of services, then follows them; shared with `service scale` and `update`. */
export async function reportAndWait(
  context: Context,
  services: readonly AppliedService[],
  options: ApplyOptions,
): Promise<number> {
  const { io, format } = context;
  if (format === 'table')
    io.out(services.map((service) => `${appliedText(service, options.dryRun === true)}\n`).join(''));
  printWarnings(io, services);
  const waits = options.dryRun !== true && options.detach !== true && services.length > 0;
  const convergence = waits ? await waitForConvergence(context, services, options.timeout) : undefined;
  if (format === 'json') {
    io.out(
      renderJson(
        services.map((row, index) => (convergence ? { ...row, converged: convergence.converged[index] } : row)),
      ),
    );
  }
  return convergence?.status ?? 0;
}

/** `web updated (k3…): replicas 3 → 5` */
export function appliedText({ name, id, action, changes }: AppliedService, dryRun = false): string {
  const verb = dryRun ? (action === 'unchanged' ? 'would stay unchanged' : `would be ${action}`) : action;
  const label = dryRun || id === '' ? name : `${name} (${id})`;
  return sanitize(`service ${label} ${verb}${changes.length === 0 ? '' : `: ${changes.join(', ')}`}`);
}

/** What a person should know before it hurts; on standard error, whatever the format. */
export function printWarnings(io: Io, services: readonly AppliedService[]): void {
  for (const { name, warnings } of services) {
    for (const warning of warnings) io.err(`meshctl: warning: ${sanitize(`service ${name}: ${warning}`)}\n`);
  }
}

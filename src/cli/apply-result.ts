import type { AppliedService } from '../rpc/messages.ts';
import type { Context } from './context.ts';
import { waitForConvergence } from './convergence.ts';
import type { Io } from './io.ts';
import { renderJson } from './text/json.ts';
import { lines } from './text/lines.ts';

export interface ApplyOptions {
  dryRun?: boolean;
  detach?: boolean;
  /** Milliseconds. */
  timeout?: number;
}

/** Prints the result of a change and waits for convergence; shared by `apply`, `service scale` and `service update`. */
export async function reportAndWait(
  context: Context,
  services: readonly AppliedService[],
  options: ApplyOptions,
): Promise<number> {
  const { io, format } = context;
  if (format === 'table') io.out(lines(services.map((service) => appliedText(service, options.dryRun === true))));
  printWarnings(io, services);
  const waits = options.dryRun !== true && options.detach !== true && services.length > 0;
  const convergence = waits ? await waitForConvergence(context, services, options.timeout) : undefined;
  if (format === 'json') {
    io.out(
      renderJson(
        services.map((service, index) => ({
          ...appliedRow(service),
          ...(convergence === undefined ? {} : { converged: convergence.converged[index] }),
        })),
      ),
    );
  }
  return convergence?.status ?? 0;
}

export const appliedRow = ({ id, name, action, changes, warnings }: AppliedService) => ({
  id,
  name,
  action,
  changes,
  warnings,
});

/** `service web (k3…) updated: replicas 3 → 5` */
export function appliedText({ name, id, action, changes }: AppliedService, dryRun = false): string {
  const verb = dryRun ? (action === 'unchanged' ? 'would stay unchanged' : `would be ${action}`) : action;
  const label = dryRun || id === '' ? name : `${name} (${id})`;
  return `service ${label} ${verb}${changes.length === 0 ? '' : `: ${changes.join(', ')}`}`;
}

/** Prints warnings on standard error, in every format. */
export function printWarnings(io: Io, services: readonly AppliedService[]): void {
  for (const { name, warnings } of services) {
    io.err(lines(warnings.map((warning) => `meshctl: warning: service ${name}: ${warning}`)));
  }
}

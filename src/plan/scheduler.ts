import type { AssignedPort } from '../model/assignment.ts';
import type { PortCondition } from '../model/cluster.ts';
import { usesHashing, type VirtualService } from '../model/kinds/virtual-service.ts';
import { SCHEDULER_FLAGS, type SchedulerFlag } from '../model/spec.ts';

/** The last resort: preflight checks require it, so every kernel that meshd runs on supports it. */
const DEFAULT_SCHEDULER = 'rr';

/** The declared scheduler, or the port's fallback if the kernel does not support it. */
export function schedulerOf(port: Pick<AssignedPort, 'scheduler' | 'fallback'>, schedulers: readonly string[]): string {
  const candidates = [port.scheduler, ...(port.fallback === undefined ? [] : [port.fallback])];
  return candidates.find((name) => schedulers.includes(name)) ?? DEFAULT_SCHEDULER;
}

/**
 * The flags that apply to the scheduler in use. Hashing schedulers always get their fallback flag: without it, clients
 * that hash to a draining task (weight 0) would be refused until the task is removed.
 */
export function flagsOf(scheduler: string, declared: readonly SchedulerFlag[] = []): Pick<VirtualService, 'flags'> {
  if (!usesHashing(scheduler)) return {};
  const flags = SCHEDULER_FLAGS.filter(
    (flag) => flag.startsWith(`${scheduler}-`) && (flag === `${scheduler}-fallback` || declared.includes(flag)),
  );
  return flags.length === 0 ? {} : { flags };
}

/** Conditions for ports that use a fallback because this node's kernel does not support the declared scheduler. */
export function fallbackConditions(ports: readonly AssignedPort[], schedulers: readonly string[]): PortCondition[] {
  return ports.flatMap((port): PortCondition[] => {
    const { protocol, published, scheduler } = port;
    const used = schedulerOf(port, schedulers);
    if (used === scheduler) return [];
    const message =
      `the kernel has no scheduler ${scheduler}, ${used} balances here. Try \`modprobe ip_vs_${scheduler}\`, ` +
      'then restart meshd (its tasks go on)';
    return [{ protocol, published, kind: 'fallback', message }];
  });
}

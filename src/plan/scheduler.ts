import type { AssignedPort } from '../model/assignment.ts';
import type { PortCondition } from '../model/cluster.ts';
import { usesHashing, type VirtualService } from '../model/kernel-state.ts';
import { SCHEDULER_FLAGS, type SchedulerFlag } from '../model/spec.ts';

/** What a kernel must have for meshd to run at all (preflight), so it is the last resort. */
const DEFAULT_SCHEDULER = 'rr';

/** The declared scheduler, or what the port falls back to on a kernel that has not got it. */
export function schedulerOf(port: Pick<AssignedPort, 'scheduler' | 'fallback'>, schedulers: readonly string[]): string {
  const candidates = [port.scheduler, ...(port.fallback === undefined ? [] : [port.fallback])];
  return candidates.find((name) => schedulers.includes(name)) ?? DEFAULT_SCHEDULER;
}

/**
 * Flags that mean something to the scheduler in use. Those that hash always look further when they meet a real server
 * without weight: without it, whoever hashes to a task that drains is refused until the task is gone.
 */
export function flagsOf(scheduler: string, declared: readonly SchedulerFlag[] = []): Pick<VirtualService, 'flags'> {
  if (!usesHashing(scheduler)) return {};
  const flags = SCHEDULER_FLAGS.filter(
    (flag) => flag.startsWith(`${scheduler}-`) && (flag === `${scheduler}-fallback` || declared.includes(flag)),
  );
  return flags.length === 0 ? {} : { flags };
}

/** Ports of this node that another scheduler balances than the declared one, because its kernel has not got that. */
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

import type { AssignedTask } from '../model/assignment.ts';
import type { HealthProbe } from '../model/spec.ts';
import { type CommandProbeContext, probeByCommand } from './probe-command.ts';
import { type NetworkProbeContext, probeByHttp, probeByTcp } from './probe-network.ts';
import type { ProbeResult } from './runtime.ts';

/** Where a probe is made: beside a living task, in its namespaces. */
export type ProbeContext = CommandProbeContext & NetworkProbeContext;

/**
 * Makes one probe of a task and resolves with what came of it after `timeout` ms at the latest (a command's end may
 * take a moment more); never rejects. When `signal` says so it is given up and nothing of it is left.
 */
export function probeTask(
  context: ProbeContext,
  task: AssignedTask,
  probe: HealthProbe,
  timeout: number,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const addresses = task.addresses.map(({ address }) => address);
  switch (probe.kind) {
    case 'command':
      return probeByCommand(context, task.process, probe.command, timeout, signal);
    case 'shell':
      return probeByCommand(context, task.process, ['/bin/sh', '-c', probe.command], timeout, signal);
    case 'tcp':
      return probeByTcp(context, addresses, probe.port, timeout, signal);
    case 'http':
      return probeByHttp(context, addresses, probe, timeout, signal);
  }
}

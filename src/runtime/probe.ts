import type { AssignedTask } from '../model/assignment.ts';
import type { HealthProbe } from '../model/spec.ts';
import { type CommandProbeContext, probeByCommand } from './probe-command.ts';
import { type NetworkProbeContext, probeByHttp, probeByTcp } from './probe-network.ts';
import type { ProbeResult } from './runtime.ts';

/** Target of a probe: a running task and its namespaces. */
export type ProbeContext = CommandProbeContext & NetworkProbeContext;

/**
 * Runs one probe of a task and resolves with the result at the latest after `timeout` ms (stopping a command may take
 * slightly longer); never rejects. Aborting `signal` cancels the probe and cleans up.
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

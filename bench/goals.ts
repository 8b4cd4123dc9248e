import type { Result } from './results.ts';

/** A target: our figure as a fraction of the baseline's, in the same run. */
export interface Goal {
  bench: string;
  case: string;
  metric: string;
  what: string;
  baseline: 'docker' | 'ipvsadm';
  /** The ratio must be at most (costs) or at least (rates) this. */
  bound: 'at most' | 'at least';
  ratio: number;
  /** The compared figure; by default the value itself. */
  of?: (result: Result) => number;
}

const overheadOverBare = (result: Result) => result.value - (result.bare ?? Number.NaN);

function cost(
  bench: string,
  name: string,
  metric: string,
  ratio: number,
  what: string,
  more: Partial<Goal> = {},
): Goal {
  return { bench, case: name, metric, what, baseline: 'docker', bound: 'at most', ratio, ...more };
}

function rate(name: string, metric: string, ratio: number, what: string): Goal {
  return { bench: 'tcp', case: name, metric, what, baseline: 'docker', bound: 'at least', ratio };
}

export const GOALS: readonly Goal[] = [
  cost('packets', 'est-remote', 'ns_per_packet', 0.7, 'established packet, task on another node, ns'),
  cost('packets', 'est-local', 'ns_per_packet', 0.65, 'established packet, task on the ingress node, ns'),
  cost('packets', 'new-remote', 'ns_per_packet', 0.45, 'a new flow per packet, task on another node, ns'),
  cost('packets', 'rr-remote', 'ns_per_pair', 0.7, 'UDP request and reply, remote task, ns'),
  cost('tcp', 'conn-remote', 'p50', 0.55, 'a connection per request, remote task: p50 above the bare host, µs', {
    of: overheadOverBare,
  }),
  rate('bulk-remote', 'up', 1.3, 'bulk, remote task, no offload, Mbit/s'),
  rate('bulk-remote', 'down', 1.3, 'the same, from the task to the client'),
  rate('bulk-offload-remote', 'up', 1.1, 'bulk, remote task, with offload, Mbit/s'),
  rate('bulk-offload-remote', 'down', 1.1, 'the same, from the task to the client'),
  cost('converge', 'fifty', 'all_doors', 0.02, '50 services until all 150 endpoints respond, ms'),
  cost('converge', 'scale-down', 'last_answer', 0.2, 'until the last response of a removed task, ms'),
  cost('converge', 'killed', 'replaced', 0.1, 'from the kill of a task until its replacement responds, ms'),
  cost(
    'footprint',
    'fifty-node3',
    'daemon_rss',
    0.8,
    'daemons of one worker node, 50 services: dockerd + containerd, meshd; MB',
  ),
  cost('program', 'cold-20000', 'time', 0.2, '20k services × 2 real servers into an empty kernel, ms', {
    baseline: 'ipvsadm',
  }),
];

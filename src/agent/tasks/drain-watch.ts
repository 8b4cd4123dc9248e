import type { Clock } from '../../base/clock.ts';
import type { AssignedPort } from '../../model/assignment.ts';
import { formatHostPort } from '../../model/host-port.ts';
import { portMark } from '../../model/linux-names.ts';
import { portKey } from '../../model/spec.ts';

/** ms */
const POLL_INTERVAL = 250;

interface DrainingPort {
  fwmark: number;
  /** Task of each real server at weight 0; key as in Kernel.connections. */
  servers: Map<string, string>;
}

export interface DrainWatch {
  /** New values of ports, and keys of removed ones. */
  update(ports: readonly AssignedPort[], removed: readonly string[]): void;
  clear(): void;
  stop(): void;
}

export interface DrainWatchOptions {
  clock: Clock;
  /** Open connections by real server. */
  connections(fwmarks: number[]): Promise<ReadonlyMap<string, number>>;
  report(endpoints: { taskId: string; active: number }[]): void;
}

/** Counts the connections of real servers at weight 0 and reports them, as long as there are such servers. */
export function createDrainWatch({ clock, connections, report }: DrainWatchOptions): DrainWatch {
  const draining = new Map<string, DrainingPort>();
  let cancel: (() => void) | undefined;

  async function reportConnections(): Promise<void> {
    const ports = [...draining.values()];
    const servers = new Map(ports.flatMap((port) => [...port.servers]));
    const open = await connections(ports.map(({ fwmark }) => fwmark));
    const tasks = new Map<string, number>();
    // A server behind several ports is counted once: its connections are summed over the fwmarks already.
    for (const [server, taskId] of servers) tasks.set(taskId, (tasks.get(taskId) ?? 0) + (open.get(server) ?? 0));
    report([...tasks].map(([taskId, active]) => ({ taskId, active })));
  }

  const schedule = () => {
    if (draining.size === 0) return;
    cancel ??= clock.after(POLL_INTERVAL, () => {
      const reschedule = () => {
        cancel = undefined;
        schedule();
      };
      reportConnections().then(reschedule, reschedule); // a service that is being removed cannot be counted; the next poll follows
    });
  };

  return {
    update(ports, removed) {
      for (const key of removed) draining.delete(key);
      for (const port of ports) {
        const servers = new Map<string, string>();
        for (const { weight, address, port: target, taskId } of port.endpoints) {
          if (weight > 0) continue;
          servers.set(formatHostPort(address, target), taskId);
        }
        if (servers.size === 0) draining.delete(portKey(port));
        else draining.set(portKey(port), { fwmark: portMark(port.protocol, port.published), servers });
      }
      schedule();
    },
    clear: () => draining.clear(),
    stop() {
      draining.clear();
      cancel?.();
    },
  };
}

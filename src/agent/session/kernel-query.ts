import type { HostAddress, Listener } from '../../kernel/kernel.ts';
import type { AssignedTask } from '../../model/assignment.ts';
import type { TaskSocket } from '../../model/bound-socket.ts';
import type { KernelState } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { portMark } from '../../model/linux-names.ts';
import { type KernelAnswer, type PortFilter, parsePortFilter } from '../../model/node-answers.ts';

interface KernelQueryResult extends KernelAnswer {
  objects: KernelObject[];
}

export interface KernelQuerySource {
  revision: number;
  /** Addresses of the host. */
  addresses(): Promise<readonly HostAddress[]>;
  observe(): Promise<KernelState>;
  /** Tasks whose namespaces this node has. */
  tasks(): readonly Pick<AssignedTask, 'id' | 'serviceId'>[];
  /** Sockets in the namespace of a task. */
  listeners(taskId: string): Promise<Listener[]>;
}

/** Observes the kernel; throws MeshError `invalid` for a malformed argument. */
export async function answerKernelQuery(argument: unknown, source: KernelQuerySource): Promise<KernelQueryResult> {
  const filter = parsePortFilter(argument);
  const objects = [...(await source.observe()).values()].filter((object) => isRelevant(object, filter));
  const sockets = filter?.targets === undefined ? {} : { sockets: await taskSockets(filter, source) };
  const addresses = (await source.addresses()).map(({ address }) => address);
  return { revision: source.revision, addresses, objects, ...sockets };
}

/** Sockets of this node's tasks on the requested target ports. */
async function taskSockets({ protocol, targets = [] }: PortFilter, source: KernelQuerySource): Promise<TaskSocket[]> {
  const sockets: TaskSocket[] = [];
  for (const { id: taskId, serviceId } of source.tasks()) {
    const ports = new Set(targets.filter((target) => target.serviceId === serviceId).map(({ port }) => port));
    for (const socket of ports.size === 0 ? [] : await source.listeners(taskId)) {
      if (socket.protocol !== protocol || !ports.has(socket.port)) continue;
      const { port, address, v6only } = socket;
      sockets.push({ taskId, protocol, port, address, ...(v6only ? { v6only } : {}) });
    }
  }
  return sockets;
}

/** Whether an object may affect a packet to that port: all except those of other ports. */
function isRelevant(object: KernelObject, filter: PortFilter | undefined): boolean {
  if (filter === undefined) return true;
  switch (object.kind) {
    case 'set-member':
    case 'set-entry':
      return object.port === undefined || object.port === filter.published;
    case 'fast-path-port':
      return object.mark === portMark(filter.protocol, filter.published);
    case 'virtual-service':
    case 'real-server':
      return object.fwmark === portMark(filter.protocol, filter.published);
    default:
      return true;
  }
}

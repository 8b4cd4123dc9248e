import type { Protocol } from '../../model/address.ts';
import type { AssignedPort, AssignedTask } from '../../model/assignment.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { markedPort, publishedSet, serviceSet, taskNetns, taskVeth } from '../../model/linux-names.ts';

const PROTOCOLS: readonly Protocol[] = ['tcp', 'udp', 'sctp'];
/** Names it keeps; those of objects removed long ago are dropped first. */
const MAX_ENTRIES = 65_536;

/** Which service a kernel object belongs to; also for a while after it is not assigned any more. */
export interface ServiceOwners {
  update(ports: readonly AssignedPort[], tasks: readonly AssignedTask[]): void;
  /** Names of the services that the operations are for, each once. */
  servicesOf(ops: readonly Op[]): string[];
}

export function createServiceOwners(): ServiceOwners {
  const names = new Map<string, string>();
  const remember = (key: string, name: string) => {
    names.delete(key);
    names.set(key, name);
    if (names.size > MAX_ENTRIES) names.delete(names.keys().next().value!);
  };
  return {
    update(ports, tasks) {
      for (const { protocol, published, serviceName } of ports) remember(`${protocol} ${published}`, serviceName);
      for (const { id, serviceName } of tasks) {
        remember(taskNetns(id), serviceName);
        remember(taskVeth(id), serviceName);
      }
    },
    servicesOf(ops) {
      const found = new Set<string>();
      for (const { object } of ops) {
        for (const key of keysOf(object)) {
          const name = names.get(key);
          if (name !== undefined) found.add(name);
        }
      }
      return [...found];
    },
  };
}

function keysOf(object: KernelObject): string[] {
  switch (object.kind) {
    case 'virtual-service':
    case 'real-server': {
      const port = markedPort(object.fwmark);
      return port === undefined ? [] : [`${port.protocol} ${port.published}`];
    }
    case 'set-member': {
      const protocol = protocolOfSet(object.set);
      return protocol === undefined ? [] : [`${protocol} ${object.port}`];
    }
    case 'set-entry':
      return object.port === undefined ? [] : [`${object.protocol} ${object.port}`];
    case 'veth':
      return [object.netns, object.name, object.peer.netns];
    default:
      return 'dev' in object ? [object.netns, object.dev] : [object.netns];
  }
}

function protocolOfSet(set: string): Protocol | undefined {
  return PROTOCOLS.find((protocol) => set === publishedSet(protocol) || set === serviceSet(protocol));
}

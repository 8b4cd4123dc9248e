import type { Cidr } from '../model/address.ts';
import { addressAt, blockOf, blockSize, slotOf } from '../model/block.ts';
import type { Network, NetworkSubnet, Node, Task } from '../model/cluster.ts';
import { BLOCK_SLOT, NODE_NUMBER_LIMIT } from '../model/identifiers.ts';
import { isTerminal } from '../model/task-state.ts';

/** Automatic published ports, as in Swarm. */
export const AUTOMATIC_PORTS = { from: 30_000, to: 32_767 } as const;

export function isAutomatic(port: number | undefined): boolean {
  return port !== undefined && port >= AUTOMATIC_PORTS.from && port <= AUTOMATIC_PORTS.to;
}

/** The block of a node in a subnet; undefined when its number is beyond the subnet. */
export function nodeBlock(subnet: NetworkSubnet, node: Pick<Node, 'number'>): Cidr | undefined {
  return blockOf(subnet.cidr, subnet.blockPrefix, node.number);
}

/** The lowest node number that is free and has a block in every subnet; undefined when all are in use. */
export function allocateNodeNumber(nodes: readonly Node[], networks: readonly Network[]): number | undefined {
  const taken = new Set(nodes.map((node) => node.number));
  const subnets = networks.flatMap((network) => network.subnets);
  for (let number = 1; number <= NODE_NUMBER_LIMIT; number += 1) {
    if (subnets.some((subnet) => nodeBlock(subnet, { number }) === undefined)) return undefined;
    if (!taken.has(number)) return number;
  }
  return undefined;
}

/**
 * Addresses for a new task on a node, one per network and family, or undefined when a block is full. The search starts
 * after the newest task's address, so that a freed address is not reused immediately: clients may still have it cached.
 */
export function allocateAddresses(
  node: Pick<Node, 'number'>,
  networks: readonly Network[],
  tasksOnNode: readonly Task[],
): Task['addresses'] | undefined {
  const addresses: Task['addresses'] = [];
  for (const network of networks) {
    for (const subnet of network.subnets) {
      const block = nodeBlock(subnet, node);
      const address = block && freeAddress(block, network.id, tasksOnNode);
      if (address === undefined) return undefined;
      addresses.push({ networkId: network.id, address });
    }
  }
  return addresses;
}

function freeAddress(block: Cidr, networkId: string, tasksOnNode: readonly Task[]): string | undefined {
  // The last address of an IPv4 block looks like a broadcast address to people, though not to the kernel.
  const slots = blockSize(block) - 1 - BLOCK_SLOT.firstTask;
  const live = new Set<number>();
  const ended = new Set<number>();
  let newest: { createdAt: number; slot: number } | undefined;
  for (const task of tasksOnNode) {
    for (const own of task.addresses) {
      if (own.networkId !== networkId || own.address.includes(':') !== block.includes(':')) continue;
      const slot = slotOf(block, own.address);
      (isTerminal(task.status.state) ? ended : live).add(slot);
      const isNewest =
        newest === undefined ||
        task.createdAt > newest.createdAt ||
        (task.createdAt === newest.createdAt && slot > newest.slot);
      if (isNewest) newest = { createdAt: task.createdAt, slot };
    }
  }
  const start = newest === undefined ? 0 : newest.slot + 1 - BLOCK_SLOT.firstTask;
  let fallbackSlot: number | undefined;
  for (let step = 0; step < slots; step += 1) {
    const slot = BLOCK_SLOT.firstTask + ((start + step) % slots);
    if (live.has(slot)) continue;
    if (!ended.has(slot)) return addressAt(block, slot);
    fallbackSlot ??= slot;
  }
  // An address that a client may have cached is better than none: ended tasks of a crash loop may fill a block.
  return fallbackSlot === undefined ? undefined : addressAt(block, fallbackSlot);
}

/** The lowest automatic port that is not taken, or undefined when the range is full. */
export function allocatePort(taken: (port: number) => boolean): number | undefined {
  for (let port: number = AUTOMATIC_PORTS.from; port <= AUTOMATIC_PORTS.to; port += 1) {
    if (!taken(port)) return port;
  }
  return undefined;
}

import type { MacAddress } from './address.ts';

/* Numbers and names that the manager assigns and every node relies on. Names of kernel objects are in linux-names.ts. */

/** The network that carries published ports; every cluster has it. */
export const INGRESS_NETWORK = 'ingress';
/** First VNI assigned to a network, as in Swarm. */
export const FIRST_VNI = 4096;

/** Largest number of a node: the return rules of all nodes fit before the rule of the table `main` (32766). */
export const NODE_NUMBER_LIMIT = 20_000;

/** VTEP address of a node, derived from its number: locally administered, "mes", node number. */
export function vtepMac(nodeNumber: number): MacAddress {
  const hex = (byte: number) => byte.toString(16).padStart(2, '0');
  return `02:6d:65:73:${hex(nodeNumber >> 8)}:${hex(nodeNumber & 0xff)}`;
}

/**
 * Fixed places in a node's block: .0 VTEP, .1 host end (source of localhost clients), .2 lb towards the host (DNAT target),
 * .3 lb towards the router, .4 router towards the lb; tasks get the rest.
 */
export const BLOCK_SLOT = { vtep: 0, host: 1, lb: 2, lbNet: 3, router: 4, firstTask: 5 } as const;

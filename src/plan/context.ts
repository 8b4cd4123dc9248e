import type { Cidr, Family } from '../model/address.ts';
import { familyOf } from '../model/address.ts';
import type { AssignedNetwork, Assignment } from '../model/assignment.ts';
import { INGRESS_NETWORK } from '../model/identifiers.ts';
import { networkNetns } from '../model/linux-names.ts';
import { VXLAN_OVERHEAD } from '../model/mtu.ts';
import type { HostRouting } from '../model/policy-rule.ts';

/** The properties of a node that its plan depends on; plain data, measured by the agent. */
export interface NodeCapabilities {
  /** Smallest path MTU to other nodes, bytes. */
  underlayMtu: number;
  kernel: { major: number; minor: number };
  /** Address families this kernel supports; a network's other families are left out. */
  families: readonly Family[];
  /** Names of IPVS schedulers this kernel has or can load. */
  schedulers: readonly string[];
  /** Which packets use the fast path; undefined: none, because the kernel does not support it or it is not requested. */
  fastPath?: FastPath | undefined;
  /** Changes while the agent runs. */
  hostRouting?: HostRouting | undefined;
}

/** `link`: the host's link that has the underlay address; without it, the fast path begins inside our own namespaces. */
export interface FastPath {
  link?: string;
}

/** The part of an assignment that a delta never changes, computed once for all contributions. */
export interface PlanContext {
  self: Assignment['self'];
  network: AssignedNetwork;
  /** The netns of the network's router, which its tasks are connected to. */
  router: string;
  /** Families in use on this node, with the whole network and this node's block of it. */
  subnets: { family: Family; cidr: Cidr; block: Cidr }[];
  /** Of every link inside the overlay, bytes. */
  mtu: number;
  kernel: NodeCapabilities['kernel'];
  schedulers: readonly string[];
  fastPath?: FastPath | undefined;
  hostRouting?: HostRouting | undefined;
}

/** Undefined while the node is not part of the ingress network: then the plan is empty. */
export function planContext(
  assignment: Pick<Assignment, 'self' | 'networks'>,
  capabilities: NodeCapabilities,
): PlanContext | undefined {
  const network = assignment.networks.find((candidate) => candidate.name === INGRESS_NETWORK);
  if (network === undefined) return undefined;
  const subnets = network.subnets.filter((subnet) => capabilities.families.includes(subnet.family));
  if (subnets.length === 0) return undefined;
  return {
    self: assignment.self,
    network,
    router: networkNetns(network.name),
    subnets,
    // 68 is the smallest MTU IPv4 allows; below it the kernel would refuse the whole link.
    mtu: Math.max(68, capabilities.underlayMtu - VXLAN_OVERHEAD[familyOf(assignment.self.underlay)]),
    kernel: capabilities.kernel,
    schedulers: capabilities.schedulers,
    fastPath: capabilities.fastPath,
    hostRouting: capabilities.hostRouting,
  };
}

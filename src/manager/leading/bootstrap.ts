import { MeshError } from '../../base/errors.ts';
import { nodeBlock } from '../../decide/allocate.ts';
import type { Family } from '../../model/address.ts';
import type { Network, NetworkSubnet, Stored } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import { FIRST_VNI, INGRESS_NETWORK } from '../../model/identifiers.ts';
import { check } from '../../rpc/check.ts';
import { cidr } from '../../rpc/check-values.ts';
import type { Store, Write } from '../../store/store.ts';
import { newId } from './id.ts';
import { put } from './writer.ts';

export interface ClusterOptions {
  /** Address range of the ingress network; each node gets a /24 of it. Only for a new cluster. */
  ingressSubnet?: string;
  /** Address families of tasks, at least one; IPv4 when absent. Only for a new cluster. */
  families?: readonly Family[];
}

/** 1023 nodes with 250 tasks each, in a part of 10.0.0.0/8 that is rarely used. */
const DEFAULT_SUBNET = '10.252.0.0/14';
const BLOCK_PREFIX = 24;
/** "meshh" in a unique local prefix (RFC 4193). */
const IPV6_SUBNET: NetworkSubnet = { family: 'inet6', cidr: 'fd6d:6573:6800::/48', blockPrefix: 64 };

/** Creates the objects that every cluster has, once; returns the cluster's id. Errors: `invalid` for an unusable subnet. */
export async function bootstrap(store: Store, options: ClusterOptions, now: number): Promise<string> {
  const stored = { version: 0, createdAt: now, updatedAt: now };
  const writes: Write[] = [];
  const existing = store.get<Stored & { clusterId: string }>('cluster', 'cluster');
  const clusterId = existing?.clusterId ?? newId();
  if (existing === undefined) writes.push(put('cluster', { ...stored, id: 'cluster', clusterId }));
  const ingress = store.list<Network>('networks').find(({ name }) => name === INGRESS_NETWORK);
  const requestedSubnets = configuredSubnets(options);
  if (ingress === undefined) {
    writes.push(
      put<Network>('networks', {
        ...stored,
        id: INGRESS_NETWORK,
        name: INGRESS_NETWORK,
        vni: FIRST_VNI,
        subnets: requestedSubnets,
      }),
    );
  } else if (!matchesOptions(ingress.subnets, options)) {
    const current = ingress.subnets.map((subnet) => subnet.cidr).join(' and ');
    throw new MeshError(
      'invalid',
      `the ingress network of this cluster is ${current} and cannot be changed: start the manager without --ingress-subnet, --families and --ipv6`,
    );
  }
  if (writes.length > 0) await store.transact(writes);
  return clusterId;
}

/** Whether a cluster matches the options; an absent option matches anything. */
function matchesOptions(current: readonly NetworkSubnet[], options: ClusterOptions): boolean {
  const { ingressSubnet, families = current.map(({ family }) => family) } = options;
  if (ingressSubnet === undefined && options.families === undefined) return true;
  const currentIpv4 = current.find(({ family }) => family === 'inet')?.cidr;
  return sameValue(
    current,
    configuredSubnets({
      families,
      ...(currentIpv4 === undefined ? {} : { ingressSubnet: ingressSubnet ?? currentIpv4 }),
    }),
  );
}

function configuredSubnets({ ingressSubnet, families = ['inet'] }: ClusterOptions): NetworkSubnet[] {
  const all: NetworkSubnet[] = [
    {
      family: 'inet',
      cidr: check(cidr('inet'), ingressSubnet ?? DEFAULT_SUBNET, 'ingress subnet'),
      blockPrefix: BLOCK_PREFIX,
    },
    IPV6_SUBNET,
  ];
  const chosen = all.filter(({ family }) => families.includes(family));
  const [small] = chosen.filter((subnet) => nodeBlock(subnet, { number: 1 }) === undefined);
  if (small !== undefined) {
    throw new MeshError(
      'invalid',
      `ingress subnet ${small.cidr} is too small: each node takes a /${BLOCK_PREFIX}, so specify at least a /${BLOCK_PREFIX - 1}, or a /16 for 255 nodes`,
    );
  }
  return chosen;
}

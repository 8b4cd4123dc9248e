import { familyOf } from '../model/address.ts';
import type { Peer } from '../model/assignment.ts';
import { addressAt, DEFAULT_DESTINATION, hostNetwork } from '../model/block.ts';
import { BLOCK_SLOT } from '../model/identifiers.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { HOST_NETNS, LB_NETNS, LB_VNI, peerSet, returnTable, VXLAN_LINK } from '../model/linux-names.ts';
import type { PlanContext } from './context.ts';
import { planFastPathPeer } from './fast-path.ts';
import { groupRules, returnRule } from './return-rules.ts';
import { route } from './route.ts';

/** Routes of the lb to another node's tasks, and of the router back to the lb through which a flow arrived. */
export function planPeer(context: PlanContext, peer: Peer): KernelObject[] {
  const { router } = context;
  const dev = VXLAN_LINK;
  const frames = { kind: 'fdb', dev, mac: peer.mac, dst: peer.underlay } as const;
  const objects: KernelObject[] = [
    { ...frames, netns: LB_NETNS, vni: context.network.vni },
    { ...frames, netns: router, vni: LB_VNI },
  ];
  const underlay = familyOf(context.self.underlay);
  // A peer of the other family cannot send packets to this node.
  if (familyOf(peer.underlay) === underlay) {
    const network = hostNetwork(peer.underlay);
    objects.push({ kind: 'set-entry', netns: HOST_NETNS, set: peerSet(underlay), network });
  }
  for (const { family, block } of blocksOf(context, peer)) {
    const vtep = addressAt(block, BLOCK_SLOT.vtep);
    for (const netns of [LB_NETNS, router]) {
      objects.push(
        { kind: 'neighbour', netns, dev, address: vtep, mac: peer.mac },
        route(netns, block, dev, { via: vtep }),
      );
    }
    objects.push(
      route(router, DEFAULT_DESTINATION[family], dev, { via: vtep, table: returnTable(peer.number) }),
      returnRule(router, family, peer.number),
    );
  }
  return [...objects, ...planFastPathPeer(context, peer), ...planSharedRules(context, peer)];
}

/** The part of a peer's plan that it may share with other peers: it stays as long as one of them needs it. */
export function planSharedRules(context: PlanContext, peer: Peer): KernelObject[] {
  const netns = context.router;
  return blocksOf(context, peer).flatMap(({ family }) => groupRules(netns, family, peer.number));
}

function blocksOf(context: PlanContext, peer: Peer): Peer['blocks'] {
  return peer.blocks.filter(
    (block) =>
      block.networkId === context.network.id && context.subnets.some((subnet) => subnet.family === block.family),
  );
}

import { familyOf, type IpAddress } from '../model/address.ts';
import { fastPathPeerKey } from '../model/kinds/fast-path-entries.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { linkThing } from '../model/kinds/things.ts';
import type { Vxlan } from '../model/kinds/vxlan.ts';
import { hex } from '../model/kinds/words.ts';
import { HOST_NETNS, LB_HOST_LINK, NET_HOST_LINK, VXLAN_LINK } from '../model/linux-names.ts';
import { hostInProgram } from './host-fast-path.ts';
import type { NodeState, Packet } from './packet.ts';
import { commandText, type PartialPath, REPAIR_HINT, recordPass, recordStop } from './partial-path.ts';
import { ROUTER_NETNS } from './router.ts';
import { findRoute, findTunnel } from './routing.ts';

/** Neighbour, FDB entry and the remote end in the netns `arrives`; returns the link on which the packet arrives there. */
export function traceTunnel(
  partial: PartialPath,
  packet: Packet,
  targetNetns: string,
  nodes: readonly NodeState[],
): string | undefined {
  const { state } = partial.node;
  const { netns } = packet;
  const found = findRoute(state, packet);
  const via = found?.route.via ?? packet.destination;
  const { neighbour, entry } = findTunnel(state, netns, VXLAN_LINK, via);
  if (neighbour === undefined)
    return recordStop(partial, 'lost', netns, `neighbour ${via}`, `is missing: ${REPAIR_HINT}`);
  recordPass(
    partial,
    netns,
    commandText(neighbour),
    targetNetns === ROUTER_NETNS ? 'the other router' : 'the other lb',
  );
  if (entry === undefined)
    return recordStop(partial, 'lost', netns, `FDB entry of ${neighbour.mac}`, `is missing: ${REPAIR_HINT}`);
  if (entry.foreign !== undefined) {
    const reason = `another program changed it (${entry.foreign.join(', ')}): the other node does not receive it. ${REPAIR_HINT}`;
    return recordStop(partial, 'lost', netns, commandText(entry), reason);
  }
  recordPass(partial, netns, commandText(entry), `into VXLAN to ${entry.dst}`);
  const device = vxlanOf(partial.node, netns);
  const other = nodes.find((node) => vxlanOf(node, targetNetns)?.local === entry.dst);
  const end = other === undefined ? undefined : vxlanOf(other, targetNetns);
  if (device === undefined || other === undefined || end === undefined) {
    const reason = `no node that could be asked has this address: it is down, cut off, or its VXLAN device is missing. See \`meshctl node ls\` and \`meshctl doctor\``;
    return recordStop(partial, 'lost', netns, `VXLAN to ${entry.dst}`, reason);
  }
  const from = partial.node;
  partial.node = other;
  const vni = entry.vni ?? device.vni;
  if (end.vni !== vni || end.port !== device.port || end.mac !== neighbour.mac || !end.up) {
    const reason = `does not fit the sender's (VNI ${vni}, port ${device.port}, MAC ${neighbour.mac}): ${REPAIR_HINT}`;
    return recordStop(partial, 'lost', targetNetns, commandText(end), reason);
  }
  const revisions =
    from.revision === other.revision
      ? ''
      : `; ${from.name} holds revision ${from.revision}, ${other.name} ${other.revision}`;
  const out = `out of VXLAN with mark ${hex(packet.mark)}${revisions}`;
  const program = decapsulationProgram(other, packet, entry.dst, device.local);
  if (program === undefined) {
    recordPass(partial, targetNetns, commandText(end), out);
    return VXLAN_LINK;
  }
  recordPass(partial, HOST_NETNS, commandText(program), `the fast path: ${out}, into ${targetNetns}`);
  return targetNetns === ROUTER_NETNS ? NET_HOST_LINK : LB_HOST_LINK;
}

/** The program that decapsulates packets of that node instead of the VXLAN device: short TCP packets and all of UDP. */
function decapsulationProgram(
  { state }: NodeState,
  packet: Packet,
  to: IpAddress,
  sender: IpAddress,
): KernelObject | undefined {
  const isPeer = state.has(fastPathPeerKey(HOST_NETNS, sender));
  if (!isPeer || familyOf(packet.destination) !== 'inet' || packet.protocol === 'sctp') return undefined;
  return hostInProgram(state, to);
}

function vxlanOf({ state }: NodeState, netns: string): Vxlan | undefined {
  const found = state.get(linkThing(netns, VXLAN_LINK));
  return found?.kind === 'vxlan' ? found : undefined;
}

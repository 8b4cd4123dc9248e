import { familyOf } from '../model/address.ts';
import { INGRESS_NETWORK } from '../model/identifiers.ts';
import { fastPathKey } from '../model/kinds/fast-path.ts';
import { fastPathTaskKey } from '../model/kinds/fast-path-entries.ts';
import { NET_LB_LINK, networkNetns, VXLAN_LINK } from '../model/linux-names.ts';
import type { Packet } from './packet.ts';
import { commandText, type PartialPath, recordPass } from './partial-path.ts';
import { traceChain, traceRoute } from './steps.ts';

export const ROUTER_NETNS = networkNetns(INGRESS_NETWORK);

/** mangle PREROUTING, route and filter FORWARD of a router; conntrack stores what the chains save. */
export function traceRouter(partial: PartialPath, packet: Packet): Packet | undefined {
  const fastPathPacket = fastPathInRouter(partial, packet);
  if (fastPathPacket !== undefined) return fastPathPacket;
  const isLocal = () => false;
  const marked = traceChain(partial, { table: 'mangle', from: 'PREROUTING' }, packet, isLocal);
  if (marked === undefined) return undefined;
  const sent = traceRoute(partial, marked);
  if (sent === undefined) return undefined;
  return traceChain(partial, { table: 'filter', from: 'FORWARD' }, sent, isLocal);
}

/** The packet after the router, if the program on its ingress link redirects it. */
function fastPathInRouter(partial: PartialPath, packet: Packet): Packet | undefined {
  const { state } = partial.node;
  const { inputLink: from = '', protocol, destination, connmark, mark, answer } = packet;
  const program = state.get(fastPathKey(ROUTER_NETNS, from));
  if (program?.kind !== 'fast-path' || familyOf(destination) !== 'inet' || protocol === 'sctp') return undefined;
  if (program.program === undefined) {
    recordPass(
      partial,
      ROUTER_NETNS,
      commandText(program),
      'runs a program that is not of meshd: its effect is unknown',
    );
    return undefined;
  }
  if (answer) {
    recordPass(partial, ROUTER_NETNS, commandText(program), 'the fast path: back to the node that brought the flow');
    return { ...packet, outputLink: connmark === 0 ? NET_LB_LINK : VXLAN_LINK, mark: connmark };
  }
  const task = state.get(fastPathTaskKey(ROUTER_NETNS, destination));
  if (task?.kind !== 'fast-path-task') return undefined;
  recordPass(
    partial,
    ROUTER_NETNS,
    commandText(program),
    'the fast path: into the task; the flow remembers who brought it',
  );
  return { ...packet, outputLink: task.link, mark: 0, connmark: mark };
}

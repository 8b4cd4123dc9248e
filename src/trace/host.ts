import { familyOf, type IpAddress, type Protocol } from '../model/address.ts';
import { sysctlKey } from '../model/kinds/sysctl.ts';
import { hex } from '../model/kinds/words.ts';
import { HOST_NETNS, LB_HOST_LINK, LB_NETNS, portMark } from '../model/linux-names.ts';
import { isAddressOf } from './addresses.ts';
import { hostFastPath } from './host-fast-path.ts';
import { checkRequestRoute } from './host-routes.ts';
import type { Packet, TraceRequest } from './packet.ts';
import { commandText, type PartialPath, REPAIR_HINT, recordPass, recordStop } from './partial-path.ts';
import { traceChain, traceRoute } from './steps.ts';

/** The host of the node the client connects to; returns the packet as it arrives in the lb. */
export function traceHost(partial: PartialPath, request: TraceRequest): Packet | undefined {
  const isLocal = (address: IpAddress) => isAddressOf(request.node, address);
  const fastPathPacket = fastPathOnHost(partial, request);
  if (fastPathPacket !== undefined) return fastPathPacket;
  const translatedPacket = traceDnat(partial, request, isLocal);
  if (translatedPacket === undefined) return undefined;
  const forwardedPacket = traceForward(partial, translatedPacket, request);
  if (forwardedPacket === undefined) return undefined;
  return { ...forwardedPacket, netns: LB_NETNS, inputLink: LB_HOST_LINK, translated: false };
}

/** The packet in the lb, if the program on the host's link redirects it. */
function fastPathOnHost(partial: PartialPath, request: TraceRequest): Packet | undefined {
  const { client, destination, protocol, port } = request;
  const program = hostFastPath(request);
  if (program === undefined) return undefined;
  const mark = portMark(protocol, port);
  recordPass(partial, HOST_NETNS, commandText(program), `the fast path: on to the lb with mark ${hex(mark)}`);
  return { ...firstPacket(protocol, client, destination, port), netns: LB_NETNS, inputLink: LB_HOST_LINK, mark };
}

/** nat: the published port's DNAT, or the path of a packet without one. */
function traceDnat(
  partial: PartialPath,
  { client, destination, protocol, port, node }: TraceRequest,
  isLocal: (address: IpAddress) => boolean,
): Packet | undefined {
  const start = firstPacket(protocol, client, destination, port);
  const endpoint = `${destination}, port ${port}/${protocol}`;
  if (!isLocal(destination)) return recordStop(partial, 'lost', HOST_NETNS, endpoint, `is no address of ${node.name}`);
  const isFromHost = isLocal(client);
  const from = isFromHost ? 'OUTPUT' : 'PREROUTING';
  const translated = traceChain(partial, { table: 'nat', from }, start, isLocal);
  if (translated === undefined) return undefined;
  if (translated.translated) return translated;
  // Without DNAT the packet stays in the host.
  const out = isFromHost ? traceChain(partial, { table: 'filter', from: 'OUTPUT' }, start, isLocal, 'optional') : start;
  if (out === undefined || traceChain(partial, { table: 'filter', from: 'INPUT' }, start, isLocal) === undefined) {
    return undefined;
  }
  const reason = `the mesh does not take ${port}/${protocol} there: programs of ${node.name} itself get the packet. See \`meshctl port ls\``;
  return recordStop(partial, 'refused', HOST_NETNS, endpoint, reason);
}

/** The host's route and FORWARD chain. */
function traceForward(partial: PartialPath, packet: Packet, request: TraceRequest): Packet | undefined {
  const { state } = partial.node;
  const sent = traceRoute(partial, packet);
  if (sent === undefined) return undefined;
  const isLocal = () => false;
  if (!isAddressOf(request.node, request.client)) {
    if (!checkRequestRoute(partial, request, packet)) return undefined;
    const forwarding = familyOf(packet.destination) === 'inet' ? 'net.ipv4.ip_forward' : 'net.ipv6.conf.all.forwarding';
    const sysctl = state.get(sysctlKey(HOST_NETNS, forwarding));
    if (sysctl?.kind === 'sysctl' && sysctl.value !== '1') {
      return recordStop(partial, 'lost', HOST_NETNS, commandText(sysctl), `the host forwards nothing: ${REPAIR_HINT}`);
    }
    const chain = traceChain(partial, { table: 'filter', from: 'FORWARD' }, sent, isLocal);
    if (chain === undefined) return undefined;
  }
  return traceChain(partial, { table: 'nat', from: 'POSTROUTING' }, sent, isLocal, 'optional');
}

/** The first packet of a connection, as it arrives at the host. */
export function firstPacket(protocol: Protocol, source: IpAddress, destination: IpAddress, port: number): Packet {
  const untouched = { mark: 0, connmark: 0, translated: false, answer: false };
  return { protocol, source, destination, port, netns: HOST_NETNS, ...untouched };
}

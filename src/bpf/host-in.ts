import type { IpAddress } from '../model/address.ts';
import { portMark, VXLAN_PORT } from '../model/linux-names.ts';
import {
  assemble,
  jump,
  jumpIf,
  jumpIf64,
  label,
  load,
  lookUp,
  mov,
  or,
  type Program,
  store,
  swap16,
} from './assembler.ts';
import { addressWord } from './maps.ts';
import {
  IP,
  IPPROTO,
  L4,
  parseIpv4,
  parseQuotedPacket,
  passToStack,
  QUOTED_OFFSET,
  redirectPeer,
  SKB,
  swapBytes16,
} from './packet.ts';
import { type DecapsulationConfig, decapsulateVxlan } from './vxlan.ts';

/**
 * On the host's underlay link: redirects packets to published ports of the node's address directly into the lb, with the
 * mark that the host's DNAT and the lb's ipset would set; likewise ICMP errors about these ports, which IPVS forwards.
 * `outOfVxlan` decapsulates VXLAN datagrams of other nodes.
 */
export function hostIn({ address, ...tunnel }: DecapsulationConfig & { address: IpAddress }): Program {
  const own = addressWord(address);
  const key = -4;
  return assemble('mesh_host_in', [
    ...parseIpv4(),
    load('u8', 'r3', ['r7', IP.protocol]),
    load('u32', 'r5', ['r7', IP.destination]),
    load('u16', 'r4', ['r7', L4.destinationPort]),
    jumpIf('r3', '==', IPPROTO.tcp, 'addressed'),
    jumpIf('r3', '==', IPPROTO.icmp, 'icmp'),
    jumpIf('r4', '!=', swapBytes16(VXLAN_PORT), 'addressed'),
    jumpIf('r5', '!=', own, 'pass'),
    jumpIf('r3', '!=', IPPROTO.udp, 'pass'),
    ...decapsulateVxlan(tunnel),

    label('icmp'),
    jumpIf('r5', '!=', own, 'pass'),
    ...parseQuotedPacket(),
    load('u8', 'r3', ['r7', QUOTED_OFFSET + IP.protocol]),
    load('u32', 'r5', ['r7', QUOTED_OFFSET + IP.source]),
    load('u16', 'r4', ['r7', QUOTED_OFFSET + L4.sourcePort]),

    label('addressed'),
    jumpIf('r5', '!=', own, 'pass'),
    swap16('r4'),
    jumpIf('r3', '==', IPPROTO.udp, 'udp'),
    jumpIf('r3', '!=', IPPROTO.tcp, 'pass'),
    or('r4', portMark('tcp', 0)),
    jump('look-up'),
    label('udp'),
    or('r4', portMark('udp', 0)),
    label('look-up'),
    mov('r9', 'r4'),
    store('u32', ['r10', key], 'r9'),
    ...lookUp('mesh_ports', key),
    jumpIf64('r0', '==', 0, 'pass'),
    store('u32', ['r6', SKB.mark], 'r9'),
    ...redirectPeer(tunnel.lb),
    ...passToStack(),
  ]);
}

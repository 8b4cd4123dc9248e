import { readFileSync } from 'node:fs';

/** Port numbers, both ends included. */
export interface PortRange {
  from: number;
  to: number;
}

/** The kernel's default (inet_init_net in net/ipv4/af_inet.c). */
const DEFAULT_RANGE: PortRange = { from: 32_768, to: 60_999 };

/** The range of ephemeral ports of this host (net.ipv4.ip_local_port_range) now; its default where procfs is not mounted. */
export function readEphemeralRange(): PortRange {
  try {
    return parseEphemeralRange(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1'));
  } catch {
    return DEFAULT_RANGE;
  }
}

/** `32768\t60999\n`, as the sysctl file has it. */
export function parseEphemeralRange(text: string): PortRange {
  const [, from, to] = /^(\d+)\s+(\d+)\s*$/.exec(text) ?? [];
  return from === undefined || to === undefined ? DEFAULT_RANGE : { from: Number(from), to: Number(to) };
}

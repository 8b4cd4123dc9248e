import type { Protocol } from '../model/address.ts';
import type { AssignedPort } from '../model/assignment.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { LB_NETNS } from '../model/linux-names.ts';
import type { PlanContext } from './context.ts';

/**
 * Seconds. TCP: beyond Linux's first keepalive (7200 s) and its eleven minutes of probes, so a connection that sends
 * keepalives is never cut, and one that does not lives three hours, not the kernel's 900 s. UDP: as long as conntrack
 * keeps a stream (nf_conntrack_udp_timeout_stream), so balancer and router forget a flow together.
 */
const DEFAULT_TIMEOUT = { tcp: 10_800, udp: 120 } as const;
/** The kernel's default for a closing connection. */
const TCP_FIN = 120;
/** INT_MAX / HZ at HZ=1000: more is EINVAL (ip_vs_set_timeout). */
const MAX_TIMEOUT = 2_147_483;

/** Defaults of conntrack in seconds (nf_conntrack_proto_{tcp,udp}.c). */
const CONNTRACK_DEFAULTS = { established: 432_000, udp: 30, udpStream: 120 } as const;

/**
 * Idle timeouts of connections: IPVS has one timeout per protocol for the whole lb netns, so the longest of all ports
 * applies. A port that declares none counts with the default. The router never forgets a flow before the balancer does;
 * the host's conntrack is shared with other programs and stays unchanged. The timeout of SCTP cannot be set.
 */
export function planIdleTimeouts({ router }: PlanContext, ports: readonly AssignedPort[]): KernelObject[] {
  const tcp = longestTimeout(ports, 'tcp');
  const udp = longestTimeout(ports, 'udp');
  const conntrack = (name: string, seconds: number): KernelObject => ({
    kind: 'sysctl',
    netns: router,
    name: `net.netfilter.nf_conntrack_${name}`,
    value: String(seconds),
  });
  return [
    { kind: 'ipvs-timeouts', netns: LB_NETNS, tcp, tcpFin: TCP_FIN, udp },
    conntrack('tcp_timeout_established', Math.max(CONNTRACK_DEFAULTS.established, tcp)),
    // Unreplied datagrams, mostly DNS, are kept longer only if a port declares a timeout above the default.
    conntrack('udp_timeout', udp > DEFAULT_TIMEOUT.udp ? udp : CONNTRACK_DEFAULTS.udp),
    conntrack('udp_timeout_stream', Math.max(CONNTRACK_DEFAULTS.udpStream, udp)),
  ];
}

/**
 * Whether the timeouts are independent of the ports `changing`, because others require at least as much. Stops at the
 * first port that settles it, which is nearly always the first of its protocol.
 */
export function keepsTimeouts(others: Iterable<AssignedPort>, changing: readonly AssignedPort[]): boolean {
  const requested = new Map<Protocol, number>();
  for (const port of changing) {
    if (port.protocol !== 'sctp')
      requested.set(port.protocol, Math.max(requested.get(port.protocol) ?? 0, idleSeconds(port)));
  }
  if (requested.size === 0) return true;
  for (const port of others) {
    const required = requested.get(port.protocol);
    if (required !== undefined && idleSeconds(port) >= required) requested.delete(port.protocol);
    if (requested.size === 0) return true;
  }
  return false;
}

function longestTimeout(ports: readonly AssignedPort[], protocol: 'tcp' | 'udp'): number {
  let seconds = 0;
  for (const port of ports) if (port.protocol === protocol) seconds = Math.max(seconds, idleSeconds(port));
  return seconds === 0 ? DEFAULT_TIMEOUT[protocol] : Math.min(seconds, MAX_TIMEOUT);
}

/** The idle timeout of a port in seconds. */
function idleSeconds({ protocol, idleTimeout }: AssignedPort): number {
  if (idleTimeout !== undefined) return Math.ceil(idleTimeout / 1_000);
  return protocol === 'sctp' ? 0 : DEFAULT_TIMEOUT[protocol];
}

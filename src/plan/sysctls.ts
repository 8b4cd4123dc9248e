import type { Sysctl } from '../model/kinds/sysctl.ts';
import {
  HOST_LINK,
  HOST_NETNS,
  LB_HOST_LINK,
  LB_NET_LINK,
  LB_NETNS,
  NET_LB_LINK,
  VXLAN_LINK,
} from '../model/linux-names.ts';
import type { PlanContext } from './context.ts';

/** Sysctls of the skeleton. In the host only forwarding and our own veth are changed; one more in source-routing.ts. */
export function planSysctls(context: PlanContext): Sysctl[] {
  const inet6 = context.subnets.some((subnet) => subnet.family === 'inet6');
  const { router } = context;
  return [
    ...sysctlsOf(HOST_NETNS, [
      ['net.ipv4.ip_forward', '1'],
      // Accepts replies to 127.0.0.1 on this one veth. rp_filter needs no change, not even strict: when it is checked,
      // a reply still has the lb's address as source, and its /32 route points to this veth.
      [`net.ipv4.conf.${HOST_LINK}.route_localnet`, '1'],
    ]),
    ...(inet6
      ? sysctlsOf(HOST_NETNS, [
          // The kernel has no per-link setting: ip6_forward() reads `all`. Hosts that get their default route
          // from router advertisements need accept_ra=2 on that link.
          ['net.ipv6.conf.all.forwarding', '1'],
          [`net.ipv6.conf.${HOST_LINK}.accept_dad`, '0'],
        ])
      : []),
    ...sysctlsOf(LB_NETNS, [...forwardingSettings(inet6), ...ipvsSettings(context), ...icmpSettings(inet6)]),
    ...sysctlsOf(router, forwardingSettings(inet6)),
    ...[LB_HOST_LINK, LB_NET_LINK, VXLAN_LINK].flatMap((link) => sysctlsOf(LB_NETNS, linkSettings(link, inet6))),
    ...[NET_LB_LINK, VXLAN_LINK].flatMap((link) => sysctlsOf(router, linkSettings(link, inet6))),
  ];
}

/** Lets tasks without privileges listen on ports below 1024. */
export function planTaskSysctls(netns: string): Sysctl[] {
  return sysctlsOf(netns, [['net.ipv4.ip_unprivileged_port_start', '0']]);
}

export type Setting = readonly [name: string, value: string];

export function sysctlsOf(netns: string, list: readonly Setting[]): Sysctl[] {
  return list.map(([name, value]) => ({ kind: 'sysctl', netns, name, value }));
}

/** The effective rp_filter is the greater of `all` and the link's; links of tasks take `default`. */
function forwardingSettings(inet6: boolean): Setting[] {
  return [
    ['net.ipv4.ip_forward', '1'],
    // No socket listens here, so early demux would only cost a lookup per packet. The setting covers both families
    // (ip6_rcv_finish_core).
    ['net.ipv4.ip_early_demux', '0'],
    ['net.ipv4.conf.all.rp_filter', '0'],
    ['net.ipv4.conf.default.rp_filter', '0'],
    ...(inet6
      ? ([
          ['net.ipv6.conf.all.forwarding', '1'],
          // Every address here is unique by construction; duplicate address detection would only delay tasks by a second.
          ['net.ipv6.conf.default.accept_dad', '0'],
        ] as const)
      : []),
  ];
}

function linkSettings(link: string, inet6: boolean): Setting[] {
  return [
    [`net.ipv4.conf.${link}.rp_filter`, '0'],
    ...(inet6 ? ([[`net.ipv6.conf.${link}.accept_dad`, '0']] as const) : []),
  ];
}

/** Ports without tasks are refused by ICMP; with the default limit of one message per second and client, other connections would hang. */
function icmpSettings(inet6: boolean): Setting[] {
  return [['net.ipv4.icmp_ratelimit', '0'], ...(inet6 ? ([['net.ipv6.icmp.ratelimit', '0']] as const) : [])];
}

function ipvsSettings({ kernel }: PlanContext): Setting[] {
  const reuse = kernel.major > 5 || (kernel.major === 5 && kernel.minor >= 9);
  return [
    ['net.ipv4.vs.conntrack', '0'],
    // A connection whose real server was removed ends at its next packet instead of feeding a dead task.
    ['net.ipv4.vs.expire_nodest_conn', '1'],
    ['net.ipv4.vs.expire_quiescent_template', '1'],
    // Before 5.9 rescheduling a reused port cost a dropped SYN and a second (kernel commit f0a5e4d7a594).
    ['net.ipv4.vs.conn_reuse_mode', reuse ? '1' : '0'],
  ];
}

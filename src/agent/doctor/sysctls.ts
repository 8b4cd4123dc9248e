import { type Finding, finding } from '../../model/doctor.ts';
import { INGRESS_NETWORK } from '../../model/identifiers.ts';
import {
  HOST_LINK,
  HOST_NETNS,
  LB_HOST_LINK,
  LB_NET_LINK,
  LB_NETNS,
  NET_HOST_LINK,
  NET_LB_LINK,
  networkNetns,
  VXLAN_LINK,
} from '../../model/linux-names.ts';

/** Sysctls of one netns by dotted name; those the kernel does not have are missing. */
type Sysctls = ReadonlyMap<string, string>;

export interface SysctlFacts {
  /** By netns. */
  values: ReadonlyMap<string, Sysctls>;
  inet6: boolean;
  /** Links over which router advertisements gave the host its IPv6 default route. */
  advertised: readonly string[];
}

/** The netns of the ingress network's router. */
export const ROUTER = networkNetns(INGRESS_NETWORK);
/** Our links that receive replies whose return path is another link: strict filtering would drop them. */
const OUR_LINKS: readonly [netns: string, link: string][] = [
  [LB_NETNS, LB_HOST_LINK],
  [LB_NETNS, LB_NET_LINK],
  [LB_NETNS, VXLAN_LINK],
  [ROUTER, NET_LB_LINK],
  [ROUTER, VXLAN_LINK],
  [ROUTER, NET_HOST_LINK],
];
/** Value of rp_filter. */
const STRICT = 1;
/** Per cent of the entries in use. */
const CONNTRACK_LIMITS = { warning: 75, error: 95 };

export const CONNTRACK_SYSCTLS = ['net.netfilter.nf_conntrack_count', 'net.netfilter.nf_conntrack_max'] as const;

/** The sysctls that the checks need, by netns. */
export function sysctlsToRead(advertised: readonly string[]): Map<string, string[]> {
  const names = new Map<string, string[]>();
  const add = (netns: string, ...more: string[]) => names.set(netns, [...(names.get(netns) ?? []), ...more]);
  for (const netns of [HOST_NETNS, LB_NETNS, ROUTER]) {
    add(netns, 'net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding', rpFilter('all'));
  }
  for (const [netns, link] of OUR_LINKS) add(netns, rpFilter(link));
  add(HOST_NETNS, `net.ipv4.conf.all.route_localnet`, `net.ipv4.conf.${HOST_LINK}.route_localnet`);
  add(HOST_NETNS, ...CONNTRACK_SYSCTLS);
  for (const link of advertised) add(HOST_NETNS, acceptRa(link));
  return names;
}

export function checkSysctls(facts: SysctlFacts): Finding[] {
  return [
    ...checkForwarding(facts),
    ...OUR_LINKS.flatMap(([netns, link]) => checkRpFilter(facts, netns, link)),
    checkRouteLocalnet(facts),
    ...facts.advertised.map((link) => checkAcceptRa(facts, link)),
    ...checkConntrack(facts.values),
  ];
}

function checkForwarding({ values, inet6 }: SysctlFacts): Finding[] {
  const names = ['net.ipv4.ip_forward', ...(inet6 ? ['net.ipv6.conf.all.forwarding'] : [])];
  return [HOST_NETNS, LB_NETNS, ROUTER].flatMap((netns) =>
    names.map((sysctl) => {
      const value = values.get(netns)?.get(sysctl) ?? 'unreadable';
      if (value === '1') return finding('ok', 'ForwardingEnabled', { sysctl, netns: netnsLabel(netns) });
      const command = sysctlCommand(netns, [`${sysctl}=1`]);
      return finding('error', 'ForwardingDisabled', { sysctl, value, netns: netnsLabel(netns), command });
    }),
  );
}

/** The kernel uses the greater of `all` and the link's own (IN_DEV_RPFILTER, include/linux/inetdevice.h). */
function checkRpFilter({ values }: SysctlFacts, netns: string, link: string): Finding[] {
  const read = (name: string) => Number(values.get(netns)?.get(name) ?? 0);
  // A missing link is reported as a difference of the kernel state.
  if (values.get(netns)?.get(rpFilter(link)) === undefined) return [];
  const names = [rpFilter('all'), rpFilter(link)];
  const effective = Math.max(...names.map(read));
  if (effective !== STRICT) return [finding('ok', 'RpFilterLoose', { link, netns, value: effective })];
  const offending = names.filter((name) => read(name) !== 0).map((name) => `${name}=0`);
  return [finding('error', 'RpFilterStrict', { link, netns, command: sysctlCommand(netns, offending) })];
}

function checkRouteLocalnet({ values }: SysctlFacts): Finding {
  const host = values.get(HOST_NETNS);
  const names = ['net.ipv4.conf.all.route_localnet', `net.ipv4.conf.${HOST_LINK}.route_localnet`];
  if (names.some((name) => host?.get(name) === '1')) return finding('ok', 'RouteLocalnetEnabled', { link: HOST_LINK });
  const command = sysctlCommand(HOST_NETNS, [`net.ipv4.conf.${HOST_LINK}.route_localnet=1`]);
  return finding('error', 'RouteLocalnetDisabled', { link: HOST_LINK, command });
}

/** With forwarding on, a link accepts router advertisements only with 2 (Documentation/networking/ip-sysctl.rst). */
function checkAcceptRa({ values }: SysctlFacts, link: string): Finding {
  const host = values.get(HOST_NETNS);
  const value = host?.get(acceptRa(link));
  const forwarding = host?.get('net.ipv6.conf.all.forwarding') === '1';
  if (value !== '1' || !forwarding) return finding('ok', 'RouterAdvertisementsAccepted', { link });
  return finding('warning', 'DefaultRouteExpires', {
    link,
    command: sysctlCommand(HOST_NETNS, [`${acceptRa(link)}=2`]),
  });
}

export function checkConntrack(values: SysctlFacts['values']): Finding[] {
  const host = values.get(HOST_NETNS);
  const count = Number(host?.get('net.netfilter.nf_conntrack_count') ?? Number.NaN);
  const max = Number(host?.get('net.netfilter.nf_conntrack_max') ?? Number.NaN);
  if (!(max > 0) || !(count >= 0)) return [];
  const usage = { count, max, percent: Math.round((100 * count) / max) };
  if (usage.percent < CONNTRACK_LIMITS.warning) return [finding('ok', 'ConntrackUsage', usage)];
  const params = { ...usage, command: `sysctl -w net.netfilter.nf_conntrack_max=${max * 4}` };
  return usage.percent < CONNTRACK_LIMITS.error
    ? [finding('warning', 'ConntrackNearlyFull', params)]
    : [finding('error', 'ConntrackFull', params)];
}

/** The sysctl of a link's reverse path filter; dots in its name are written as slashes, as sysctl(8) reads them. */
export function rpFilter(link: string): string {
  return `net.ipv4.conf.${link.replaceAll('.', '/')}.rp_filter`;
}

function acceptRa(link: string): string {
  return `net.ipv6.conf.${link.replaceAll('.', '/')}.accept_ra`;
}

function netnsLabel(netns: string): string {
  return netns === HOST_NETNS ? 'the host' : netns;
}

function sysctlCommand(netns: string, assignments: readonly string[]): string {
  return `${netns === HOST_NETNS ? '' : `ip netns exec ${netns} `}sysctl -w ${assignments.join(' ')}`;
}

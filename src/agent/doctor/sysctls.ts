import { error, type Finding, ok, warning } from '../../model/doctor.ts';
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

/** Sysctls of one netns by dotted name; what this kernel lacks is not in it. */
type Sysctls = ReadonlyMap<string, string>;

export interface SysctlFacts {
  /** By netns. */
  values: ReadonlyMap<string, Sysctls>;
  inet6: boolean;
  /** Links over which router advertisements gave the host its IPv6 default route. */
  advertised: readonly string[];
}

const ROUTER = networkNetns('ingress');
/** Our links on which answers come in whose way back is another: with strict filtering they are dropped. */
const OUR_LINKS: readonly [netns: string, link: string][] = [
  [LB_NETNS, LB_HOST_LINK],
  [LB_NETNS, LB_NET_LINK],
  [LB_NETNS, VXLAN_LINK],
  [ROUTER, NET_LB_LINK],
  [ROUTER, VXLAN_LINK],
  [ROUTER, NET_HOST_LINK],
];
const STRICT = 1;

/** What has to be read of each netns for the checks. */
export function sysctlsToRead(advertised: readonly string[]): Map<string, string[]> {
  const names = new Map<string, string[]>();
  const add = (netns: string, ...more: string[]) => names.set(netns, [...(names.get(netns) ?? []), ...more]);
  for (const netns of [HOST_NETNS, LB_NETNS, ROUTER]) {
    add(netns, 'net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding', 'net.ipv4.conf.all.rp_filter');
  }
  for (const [netns, link] of OUR_LINKS) add(netns, rpFilter(link));
  add(HOST_NETNS, `net.ipv4.conf.all.route_localnet`, `net.ipv4.conf.${HOST_LINK}.route_localnet`);
  add(HOST_NETNS, 'net.netfilter.nf_conntrack_count', 'net.netfilter.nf_conntrack_max');
  for (const link of advertised) add(HOST_NETNS, acceptRa(link));
  return names;
}

export function checkSysctls(facts: SysctlFacts): Finding[] {
  return [
    ...checkForwarding(facts),
    ...OUR_LINKS.flatMap(([netns, link]) => checkRpFilter(facts, netns, link)),
    checkRouteLocalnet(facts),
    ...facts.advertised.map((link) => checkAcceptRa(facts, link)),
    ...checkConntrack(facts),
  ];
}

function checkForwarding({ values, inet6 }: SysctlFacts): Finding[] {
  const names = ['net.ipv4.ip_forward', ...(inet6 ? ['net.ipv6.conf.all.forwarding'] : [])];
  return [HOST_NETNS, LB_NETNS, ROUTER].flatMap((netns) =>
    names.map((name) => {
      const value = values.get(netns)?.get(name);
      if (value === '1') return ok('sysctl', `${name}=1 in ${netnsLabel(netns)}`);
      const problem = value === undefined ? 'cannot be read' : `is ${value}`;
      return error(
        'sysctl',
        `${name} ${problem} in ${netnsLabel(netns)}: nothing is forwarded`,
        sysctlCommand(netns, [`${name}=1`]),
      );
    }),
  );
}

/** The kernel takes the greater of `all` and the link's own (IN_DEV_RPFILTER, include/linux/inetdevice.h). */
function checkRpFilter({ values }: SysctlFacts, netns: string, link: string): Finding[] {
  const read = (name: string) => Number(values.get(netns)?.get(name) ?? 0);
  // Of a link that is not there the look at our objects tells.
  if (values.get(netns)?.get(rpFilter(link)) === undefined) return [];
  const names = ['net.ipv4.conf.all.rp_filter', rpFilter(link)];
  const effective = Math.max(...names.map(read));
  if (effective !== STRICT) return [ok('sysctl', `rp_filter of ${link} in ${netns} lets answers in (${effective})`)];
  const offending = names.filter((name) => read(name) !== 0).map((name) => `${name}=0`);
  return [
    error(
      'sysctl',
      `rp_filter of ${link} in ${netns} is strict (effective 1: the greater of all and the link): packets whose way back is another are dropped`,
      sysctlCommand(netns, offending),
    ),
  ];
}

function checkRouteLocalnet({ values }: SysctlFacts): Finding {
  const host = values.get(HOST_NETNS);
  const names = ['net.ipv4.conf.all.route_localnet', `net.ipv4.conf.${HOST_LINK}.route_localnet`];
  if (names.some((name) => host?.get(name) === '1')) return ok('sysctl', `route_localnet of ${HOST_LINK} is on`);
  return error(
    'sysctl',
    `route_localnet of ${HOST_LINK} is off: published ports do not answer on 127.0.0.1`,
    sysctlCommand(HOST_NETNS, [`net.ipv4.conf.${HOST_LINK}.route_localnet=1`]),
  );
}

/** With forwarding on, a link listens to router advertisements only with 2 (Documentation/networking/ip-sysctl.rst). */
function checkAcceptRa({ values }: SysctlFacts, link: string): Finding {
  const host = values.get(HOST_NETNS);
  const value = host?.get(acceptRa(link));
  const forwarding = host?.get('net.ipv6.conf.all.forwarding') === '1';
  if (value !== '1' || !forwarding) return ok('sysctl', `${link} takes router advertisements while forwarding`);
  return warning(
    'sysctl',
    `the IPv6 default route over ${link} came by router advertisement, and with forwarding on it will run out: accept_ra is 1`,
    sysctlCommand(HOST_NETNS, [`${acceptRa(link)}=2`]),
  );
}

function checkConntrack({ values }: SysctlFacts): Finding[] {
  const host = values.get(HOST_NETNS);
  const count = Number(host?.get('net.netfilter.nf_conntrack_count') ?? Number.NaN);
  const max = Number(host?.get('net.netfilter.nf_conntrack_max') ?? Number.NaN);
  if (!(max > 0) || !(count >= 0)) return [];
  const percent = Math.round((100 * count) / max);
  const what = `the connection table holds ${count} of ${max} entries (${percent} %)`;
  if (percent < 75) return [ok('conntrack', what)];
  const remedy = `sysctl -w net.netfilter.nf_conntrack_max=${max * 4}`;
  return percent < 95
    ? [warning('conntrack', `${what}: full, it refuses new connections`, remedy)]
    : [error('conntrack', `${what}: new connections are being refused`, remedy)];
}

function rpFilter(link: string): string {
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

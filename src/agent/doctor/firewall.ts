import type { IpAddress } from '../../model/address.ts';
import { type Finding, finding } from '../../model/doctor.ts';
import { CHAIN_PREFIX, VXLAN_PORT } from '../../model/linux-names.ts';
import { rpFilter } from './sysctls.ts';

export interface FirewallFacts {
  /** `iptables-save` or `ip6tables-save` of the host, by the underlay's family; undefined when it could not be read. */
  rules: string | undefined;
  command: 'iptables' | 'ip6tables';
  /** `nft list ruleset` of the host, empty without nft. */
  ruleset: string;
  underlay: IpAddress;
  link: { name: string; strict: boolean } | undefined;
  /** Underlay addresses of nodes that did not answer. */
  unreachable: readonly IpAddress[];
}

/** Nodes that a remedy names. */
const MAX_NAMED = 5;
const CHAINS = ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'];
const DROPS = /-j (DROP|REJECT)\b/;

/** What on this host may block VXLAN from nodes that do not answer. Only likely causes: rules are read, not evaluated. */
export function checkFirewall(facts: FirewallFacts): Finding[] {
  if (facts.unreachable.length === 0) return [];
  return [
    ...findDroppingRules(facts),
    ...findClosedPolicies(facts),
    ...findClosedTables(facts),
    ...checkRpFilter(facts),
  ];
}

/** Rules that drop VXLAN packets by port, or the packets of an unreachable node by address. */
function findDroppingRules({ rules = '', command, unreachable }: FirewallFacts): Finding[] {
  const findings: Finding[] = [];
  let table = 'filter';
  for (const line of rules.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    const [, chain, rule] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    if (chain === undefined || rule === undefined || chain.startsWith(CHAIN_PREFIX) || !DROPS.test(rule)) continue;
    if (!matchesVxlan(rule) && !matchesNode(rule, unreachable)) continue;
    const remove = `${command} -t ${table} -D ${chain} ${rule}`;
    findings.push(finding('error', 'FirewallRuleDropsVxlan', { table, chain, rule, command: remove }));
  }
  return findings;
}

function matchesVxlan(rule: string): boolean {
  if (!/-p (udp|17)\b/.test(rule)) return false;
  const [, ports] = /--dports? (\S+)/.exec(rule) ?? [];
  return ports === undefined ? false : ports.split(',').some((range) => isInRange(range, VXLAN_PORT));
}

function isInRange(range: string, port: number): boolean {
  const [from, to = from] = range.split(':').map(Number);
  return from !== undefined && to !== undefined && from <= port && port <= to;
}

/** A rule about all traffic of a node, for any protocol and port. */
function matchesNode(rule: string, unreachable: readonly IpAddress[]): boolean {
  if (/--(d|s)ports? /.test(rule) || /-p (tcp|icmp|sctp)/.test(rule)) return false;
  return unreachable.some((address) => new RegExp(`-[sd] ${address.replaceAll('.', '\\.')}(/\\d+)?( |$)`).test(rule));
}

/** Chains that drop by default: by policy, or by a last rule without a match. */
function findClosedPolicies(facts: FirewallFacts): Finding[] {
  const { rules = '', command } = facts;
  const filter = /(?:^|\n)\*filter\n([\s\S]*?)\nCOMMIT/.exec(rules)?.[1] ?? '';
  return CHAINS.flatMap((chain) => {
    const own = filter.split('\n').filter((line) => line.startsWith(`-A ${chain} `));
    const policy = new RegExp(`^:${chain} DROP`, 'm').test(filter);
    if (!policy && !own.some((line) => /^-A \S+ -j (DROP|REJECT)/.test(line))) return [];
    if (chain === 'INPUT' && acceptsVxlan(filter)) return [];
    const ufw = filter.includes('-A ufw-');
    const open = commandPerNode(facts, (address) =>
      ufw
        ? `ufw allow from ${address} to any port ${VXLAN_PORT} proto udp`
        : `${command} -I ${chain} ${chain === 'OUTPUT' ? '-d' : '-s'} ${address} -p udp --dport ${VXLAN_PORT} -j ACCEPT`,
    );
    return [finding('warning', 'FirewallDropsByDefault', { chain, tool: ufw ? 'ufw' : command, command: open })];
  });
}

/** meshd accepts the VXLAN of its peers in INPUT, ahead of all other rules. */
function acceptsVxlan(filter: string): boolean {
  const chain = `${CHAIN_PREFIX}INPUT`;
  const jump = new RegExp(`^-A INPUT .*-j ${chain}$`, 'm').test(filter);
  return jump && new RegExp(`^-A ${chain} .*--dport ${VXLAN_PORT} .*-j ACCEPT$`, 'm').test(filter);
}

/** One command for each unreachable node: VXLAN has no authentication, so it is opened to nodes only. */
function commandPerNode({ unreachable }: FirewallFacts, command: (address: IpAddress) => string): string {
  const commands = unreachable.slice(0, MAX_NAMED).map(command);
  return commands.join(' && ') + (unreachable.length > MAX_NAMED ? ` (and so on, ${unreachable.length} nodes)` : '');
}

/** Tables of nftables itself, such as firewalld's: an accept of iptables does not overrule their drop. */
function findClosedTables(facts: FirewallFacts): Finding[] {
  const findings: Finding[] = [];
  for (const [, family, table, body = ''] of facts.ruleset.matchAll(/^table (\S+) (\S+) \{\n([\s\S]*?)^\}/gm)) {
    // The tables of iptables-nft, which iptables-save has listed already.
    if (/^(filter|nat|mangle|raw|security)$/.test(table ?? '')) continue;
    for (const [, chain, rules = ''] of body.matchAll(/^\tchain (\S+) \{\n([\s\S]*?)^\t\}/gm)) {
      const hooked = /hook (input|prerouting|output|ingress)/.test(rules);
      const closed = /policy drop/.test(rules) || /^\t\t(reject|drop)\b/m.test(rules);
      const named = new RegExp(`udp dport (\\{[^}]*\\b)?${VXLAN_PORT}\\b.*\\b(drop|reject)`).test(rules);
      if (!named && !(hooked && closed)) continue;
      const ip = facts.command === 'iptables' ? { rule: 'ipv4', match: 'ip' } : { rule: 'ipv6', match: 'ip6' };
      const command = commandPerNode(facts, (address) =>
        table === 'firewalld'
          ? `firewall-cmd --add-rich-rule='rule family=${ip.rule} source address=${address} port port=${VXLAN_PORT} protocol=udp accept'`
          : `nft insert rule ${family} ${table} ${chain} ${ip.match} saddr ${address} udp dport ${VXLAN_PORT} accept`,
      );
      const params = { chain: chain ?? '', family: family ?? '', table: table ?? '', command };
      findings.push(
        named ? finding('error', 'NftablesDropsVxlan', params) : finding('warning', 'NftablesDropsByDefault', params),
      );
    }
  }
  return findings;
}

function checkRpFilter({ link }: FirewallFacts): Finding[] {
  if (link === undefined || !link.strict) return [];
  const command = `sysctl -w ${rpFilter(link.name)}=2`;
  return [finding('warning', 'UnderlayRpFilterStrict', { link: link.name, command })];
}

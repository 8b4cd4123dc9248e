import type { IpAddress } from '../../model/address.ts';
import { error, type Finding, warning } from '../../model/doctor.ts';
import { CHAIN_PREFIX, VXLAN_PORT } from '../../model/linux-names.ts';

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

/** What on this host may keep VXLAN from nodes that do not answer. Suspicions: rules are read, not tried. */
export function checkFirewall(facts: FirewallFacts): Finding[] {
  if (facts.unreachable.length === 0) return [];
  return [
    ...findDroppingRules(facts),
    ...findClosedPolicies(facts),
    ...findClosedTables(facts),
    ...checkRpFilter(facts),
  ];
}

/** Rules that drop packets of VXLAN by its port, or of a silent node by its address. */
function findDroppingRules({ rules = '', command, unreachable: silent }: FirewallFacts): Finding[] {
  const findings: Finding[] = [];
  let table = 'filter';
  for (const line of rules.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    const [, chain, rule] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    if (chain === undefined || rule === undefined || chain.startsWith(CHAIN_PREFIX) || !DROPS.test(rule)) continue;
    if (!matchesVxlan(rule) && !matchesNode(rule, silent)) continue;
    const remedy = `${command} -t ${table} -D ${chain} ${rule}`;
    findings.push(error('firewall', `a rule of this node drops VXLAN: ${table} ${chain} ${rule}`, remedy));
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

/** A rule about all traffic of a node, whatever the protocol and port. */
function matchesNode(rule: string, silent: readonly IpAddress[]): boolean {
  if (/--(d|s)ports? /.test(rule) || /-p (tcp|icmp|sctp)/.test(rule)) return false;
  return silent.some((address) => new RegExp(`-[sd] ${address.replaceAll('.', '\\.')}(/\\d+)?( |$)`).test(rule));
}

/** Closed unless opened: a policy, or a last rule that drops the rest. */
function findClosedPolicies(facts: FirewallFacts): Finding[] {
  const { rules = '', command } = facts;
  const filter = /(?:^|\n)\*filter\n([\s\S]*?)\nCOMMIT/.exec(rules)?.[1] ?? '';
  return CHAINS.flatMap((chain) => {
    const own = filter.split('\n').filter((line) => line.startsWith(`-A ${chain} `));
    const policy = new RegExp(`^:${chain} DROP`, 'm').test(filter);
    if (!policy && !own.some((line) => /^-A \S+ -j (DROP|REJECT)/.test(line))) return [];
    if (chain === 'INPUT' && acceptsVxlan(filter)) return [];
    const ufw = filter.includes('-A ufw-');
    const remedy = commandPerNode(facts, (address) =>
      ufw
        ? `ufw allow from ${address} to any port ${VXLAN_PORT} proto udp`
        : `${command} -I ${chain} ${chain === 'OUTPUT' ? '-d' : '-s'} ${address} -p udp --dport ${VXLAN_PORT} -j ACCEPT`,
    );
    const what = `${chain} of this node drops what no rule accepts${ufw ? ' (ufw)' : ''}; VXLAN is udp/${VXLAN_PORT}`;
    return [warning('firewall', what, remedy)];
  });
}

/** meshd opens INPUT for the VXLAN of its peers, ahead of everybody's rules. */
function acceptsVxlan(filter: string): boolean {
  const chain = `${CHAIN_PREFIX}INPUT`;
  const jump = new RegExp(`^-A INPUT .*-j ${chain}$`, 'm').test(filter);
  return jump && new RegExp(`^-A ${chain} .*--dport ${VXLAN_PORT} .*-j ACCEPT$`, 'm').test(filter);
}

/** One command for each silent node: VXLAN authenticates nobody, so it is opened to nodes alone. */
function commandPerNode({ unreachable: silent }: FirewallFacts, command: (address: IpAddress) => string): string {
  const commands = silent.slice(0, MAX_NAMED).map(command);
  return commands.join(' && ') + (silent.length > MAX_NAMED ? ` (and so on, ${silent.length} nodes)` : '');
}

/** Tables of nftables itself, such as firewalld's: an accept of iptables does not overrule their drop. */
function findClosedTables(facts: FirewallFacts): Finding[] {
  const findings: Finding[] = [];
  for (const [, family, table, body = ''] of facts.ruleset.matchAll(/^table (\S+) (\S+) \{\n([\s\S]*?)^\}/gm)) {
    // Those are iptables' own, in another's words.
    if (/^(filter|nat|mangle|raw|security)$/.test(table ?? '')) continue;
    for (const [, chain, rules = ''] of body.matchAll(/^\tchain (\S+) \{\n([\s\S]*?)^\t\}/gm)) {
      const hooked = /hook (input|prerouting|output|ingress)/.test(rules);
      const closed = /policy drop/.test(rules) || /^\t\t(reject|drop)\b/m.test(rules);
      const named = new RegExp(`udp dport (\\{[^}]*\\b)?${VXLAN_PORT}\\b.*\\b(drop|reject)`).test(rules);
      if (!named && !(hooked && closed)) continue;
      const ip = facts.command === 'iptables' ? { rule: 'ipv4', match: 'ip' } : { rule: 'ipv6', match: 'ip6' };
      const remedy = commandPerNode(facts, (address) =>
        table === 'firewalld'
          ? `firewall-cmd --add-rich-rule='rule family=${ip.rule} source address=${address} port port=${VXLAN_PORT} protocol=udp accept'`
          : `nft insert rule ${family} ${table} ${chain} ${ip.match} saddr ${address} udp dport ${VXLAN_PORT} accept`,
      );
      const what = named ? 'drops VXLAN' : `drops what no rule accepts; VXLAN is udp/${VXLAN_PORT}`;
      const level = named ? error : warning;
      findings.push(level('firewall', `chain ${chain} of nftables table ${family} ${table} ${what}`, remedy));
    }
  }
  return findings;
}

function checkRpFilter({ link }: FirewallFacts): Finding[] {
  if (link === undefined || !link.strict) return [];
  return [
    warning(
      'sysctl',
      `rp_filter of ${link.name} is strict: what comes in there from a node that this host reaches over another interface is dropped`,
      `sysctl -w net.ipv4.conf.${link.name.replaceAll('.', '/')}.rp_filter=2`,
    ),
  ];
}

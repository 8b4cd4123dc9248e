import type { IpAddress } from '../../model/address.ts';
import { error, type Finding, warning } from '../../model/doctor.ts';
import { CHAIN_PREFIX, VXLAN_PORT } from '../../model/names.ts';

export interface FilterFacts {
  /** `iptables-save` or `ip6tables-save` of the host, by the underlay's family; undefined when it could not be read. */
  rules: string | undefined;
  command: 'iptables' | 'ip6tables';
  /** `nft list ruleset` of the host, empty without nft. */
  ruleset: string;
  underlay: IpAddress;
  link: { name: string; strict: boolean } | undefined;
  /** Underlay addresses of nodes that did not answer. */
  silent: readonly IpAddress[];
}

const CHAINS = ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'];
const DROPS = /-j (DROP|REJECT)\b/;

/** What on this host may keep VXLAN from nodes that do not answer. Suspicions: rules are read, not tried. */
export function judgeFilters(facts: FilterFacts): Finding[] {
  if (facts.silent.length === 0) return [];
  return [...suspectRules(facts), ...suspectPolicy(facts), ...suspectTables(facts), ...suspectRpFilter(facts)];
}

/** Rules that drop packets of VXLAN by its port, or of a silent node by its address. */
function suspectRules({ rules = '', command, silent }: FilterFacts): Finding[] {
  const findings: Finding[] = [];
  let table = 'filter';
  for (const line of rules.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    const [, chain, rule] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    if (chain === undefined || rule === undefined || chain.startsWith(CHAIN_PREFIX) || !DROPS.test(rule)) continue;
    if (!namesVxlan(rule) && !namesNode(rule, silent)) continue;
    const remedy = `${command} -t ${table} -D ${chain} ${rule}`;
    findings.push(error('firewall', `a rule of this node drops VXLAN: ${table} ${chain} ${rule}`, remedy));
  }
  return findings;
}

function namesVxlan(rule: string): boolean {
  if (!/-p (udp|17)\b/.test(rule)) return false;
  const [, ports] = /--dports? (\S+)/.exec(rule) ?? [];
  return ports === undefined ? false : ports.split(',').some((range) => within(range, VXLAN_PORT));
}

function within(range: string, port: number): boolean {
  const [from, to = from] = range.split(':').map(Number);
  return from !== undefined && to !== undefined && from <= port && port <= to;
}

/** A rule about all traffic of a node, whatever the protocol and port. */
function namesNode(rule: string, silent: readonly IpAddress[]): boolean {
  if (/--(d|s)ports? /.test(rule) || /-p (tcp|icmp|sctp)/.test(rule)) return false;
  return silent.some((address) => new RegExp(`-[sd] ${address.replaceAll('.', '\\.')}(/\\d+)?( |$)`).test(rule));
}

/** Closed unless opened: a policy, or a last rule that drops the rest. */
function suspectPolicy({ rules = '', command }: FilterFacts): Finding[] {
  const filter = /(?:^|\n)\*filter\n([\s\S]*?)\nCOMMIT/.exec(rules)?.[1] ?? '';
  return CHAINS.flatMap((chain) => {
    const own = filter.split('\n').filter((line) => line.startsWith(`-A ${chain} `));
    const closed =
      new RegExp(`^:${chain} DROP`, 'm').test(filter) || own.some((line) => /^-A \S+ -j (DROP|REJECT)/.test(line));
    if (!closed) return [];
    const ufw = filter.includes('-A ufw-');
    const remedy = ufw
      ? `ufw allow ${VXLAN_PORT}/udp`
      : `${command} -I ${chain} -p udp --dport ${VXLAN_PORT} -j ACCEPT`;
    return [
      warning(
        'firewall',
        `${chain} of this node drops what no rule accepts${ufw ? ' (ufw)' : ''}; VXLAN is udp/${VXLAN_PORT}`,
        remedy,
      ),
    ];
  });
}

/** Tables of nftables itself, such as firewalld's: an accept of iptables does not overrule their drop. */
function suspectTables({ ruleset }: FilterFacts): Finding[] {
  const findings: Finding[] = [];
  for (const [, family, table, body = ''] of ruleset.matchAll(/^table (\S+) (\S+) \{\n([\s\S]*?)^\}/gm)) {
    // Those are iptables' own, in another's words.
    if (body.includes('xt target') || /^(filter|nat|mangle|raw|security)$/.test(table ?? '')) continue;
    for (const [, chain, rules = ''] of body.matchAll(/^\tchain (\S+) \{\n([\s\S]*?)^\t\}/gm)) {
      const hooked = /hook (input|prerouting|output|ingress)/.test(rules);
      const closed = /policy drop/.test(rules) || /^\t\t(reject|drop)\b/m.test(rules);
      const named = new RegExp(`udp dport (\\{[^}]*\\b)?${VXLAN_PORT}\\b.*\\b(drop|reject)`).test(rules);
      if (!named && !(hooked && closed)) continue;
      const firewalld = table === 'firewalld';
      const remedy = firewalld
        ? `firewall-cmd --permanent --add-port=${VXLAN_PORT}/udp && firewall-cmd --reload`
        : `nft insert rule ${family} ${table} ${chain} udp dport ${VXLAN_PORT} accept`;
      const what = named ? 'drops VXLAN' : `drops what no rule accepts; VXLAN is udp/${VXLAN_PORT}`;
      findings.push(
        (named ? error : warning)('firewall', `chain ${chain} of nftables table ${family} ${table} ${what}`, remedy),
      );
    }
  }
  return findings;
}

function suspectRpFilter({ link }: FilterFacts): Finding[] {
  if (link === undefined || !link.strict) return [];
  return [
    warning(
      'sysctl',
      `rp_filter of ${link.name} is strict: what comes in there from a node that this host reaches over another interface is dropped`,
      `sysctl -w net.ipv4.conf.${link.name.replaceAll('.', '/')}.rp_filter=2`,
    ),
  ];
}

import { readFileSync } from 'node:fs';
import { MeshError, messageOf } from '../../base/errors.ts';
import { getGenlFamily } from '../../netlink/genetlink.ts';
import { createSet, getSetType } from '../../netlink/ipset.ts';
import { IPVS_GENL_NAME, newService } from '../../netlink/ipvs.ts';
import { newLink } from '../../netlink/link.ts';
import type { NetlinkRequest } from '../../netlink/message.ts';
import { openScratchNetns, SCRATCH_NETNS } from '../driver/scratch-netns.ts';
import {
  NETLINK_GENERIC,
  NETLINK_NETFILTER,
  NETLINK_ROUTE,
  openTransport,
  type Transport,
} from '../driver/transport.ts';
import { runInNetns } from '../firewall/firewall.ts';
import { openIpvsFamily } from '../ipvs/ipvs.ts';
import type { PreflightFinding } from './preflight-findings.ts';

/** include/uapi/linux/capability.h */
const CAPABILITIES = { CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21 } as const;
const PROBE_SET = 'preflight';
/** All that planned rules use, one line for each module; `module` may carry a remark behind its name. */
const PROBE_RULES: readonly [table: string, module: string, rule: string][] = [
  ['raw', 'xt_CT', 'PREROUTING -j CT --notrack'],
  ['raw', 'xt_CT with conntrack zones (CONFIG_NF_CONNTRACK_ZONES)', 'PREROUTING -j CT --zone-orig mark'],
  ['mangle', 'xt_set', `PREROUTING -p tcp -j SET --map-set ${PROBE_SET} dst --map-mark`],
  ['mangle', 'xt_connmark', 'PREROUTING -m connmark ! --mark 0 -j CONNMARK --restore-mark'],
  ['mangle', 'xt_mark', 'PREROUTING -m mark ! --mark 0 -j MARK --set-mark 0'],
  ['mangle', 'xt_TCPMSS', 'POSTROUTING -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu'],
  ['nat', 'xt_set', `PREROUTING -p tcp -m set --match-set ${PROBE_SET} dst -j RETURN`],
  ['nat', 'xt_addrtype', 'PREROUTING -m addrtype --dst-type LOCAL -j RETURN'],
  ['nat', 'xt_nat', 'PREROUTING -p tcp -j DNAT --to-destination DESTINATION'],
  ['nat', 'xt_MASQUERADE', 'POSTROUTING -j MASQUERADE'],
  ['filter', 'xt_conntrack', 'FORWARD -m conntrack --ctstate DNAT -j ACCEPT'],
  ['filter', 'xt_REJECT', 'FORWARD -p tcp -j REJECT --reject-with tcp-reset'],
];

/**
 * Tries everything that meshd needs of this kernel in a nameless netns that is removed with the check. Loads modules,
 * changes nothing else. Empty when the requirements are met.
 */
export async function runPreflight(): Promise<PreflightFinding[]> {
  const missing = missingCapabilities();
  if (missing.length > 0) return missing;
  const scratch = await openScratchNetns();
  const transport = openTransport(scratch.namespaces, { sends: 0, messages: 0, bytes: 0 });
  try {
    const findings = [
      ...(await checkLinks(transport)),
      ...(await checkSets(transport)),
      ...(await checkIpvs(transport)),
    ];
    const noSets = findings.some(({ code }) => SET_FINDINGS.has(code));
    return [...findings, ...(noSets ? [] : await checkFirewall(scratch.path))];
  } finally {
    transport.close();
    scratch.end();
  }
}

function missingCapabilities(): PreflightFinding[] {
  const status = readFileSync('/proc/self/status', 'latin1');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return Object.entries(CAPABILITIES)
    .filter(([, bit]) => (effective & (1n << BigInt(bit))) === 0n)
    .map(([capability]) => ({ code: 'capability-missing', params: { capability } }));
}

async function checkLinks(transport: Transport): Promise<PreflightFinding[]> {
  const findings: PreflightFinding[] = [];
  const veth = await tryRequest(
    transport,
    NETLINK_ROUTE,
    newLink({ name: 'v0', config: { kind: 'veth', peer: { name: 'v1' } } }),
  );
  if (veth) findings.push({ code: 'link-type-missing', params: { type: 'veth', answer: veth } });
  const vxlan = await tryRequest(
    transport,
    NETLINK_ROUTE,
    newLink({ name: 'x0', config: { kind: 'vxlan', vni: 1, port: 4789, gbp: true, learning: false } }),
  );
  if (vxlan) findings.push({ code: 'link-type-missing', params: { type: 'vxlan', answer: vxlan } });
  return findings;
}

/** Rules that name a set cannot be tried without one. */
const SET_FINDINGS: ReadonlySet<PreflightFinding['code']> = new Set([
  'ipset-missing',
  'set-type-missing',
  'skbinfo-missing',
]);

const SET_TYPES = [
  ['bitmap:port', 'ip_set_bitmap_port'],
  ['hash:ip', 'ip_set_hash_ip'],
  ['hash:net,port', 'ip_set_hash_netport'],
  ['hash:net,port,net', 'ip_set_hash_netportnet'],
] as const;

async function checkSets(transport: Transport): Promise<PreflightFinding[]> {
  const missing: PreflightFinding[] = [];
  for (const [type, module] of SET_TYPES) {
    const answer = await tryRequest(transport, NETLINK_NETFILTER, getSetType(type));
    if (answer && !answer.includes('FIND_TYPE')) return [{ code: 'ipset-missing', params: { answer } }];
    if (answer) missing.push({ code: 'set-type-missing', params: { type, module, answer } });
  }
  if (missing.length > 0) return missing;
  const set = { name: PROBE_SET, type: 'bitmap:port', range: { from: 0, to: 65_535 }, skbinfo: true } as const;
  const answer = await tryRequest(transport, NETLINK_NETFILTER, createSet(set));
  return answer ? [{ code: 'skbinfo-missing', params: { answer } }] : [];
}

async function checkIpvs(transport: Transport): Promise<PreflightFinding[]> {
  const noFamily = await tryRequest(transport, NETLINK_GENERIC, getGenlFamily(IPVS_GENL_NAME));
  if (noFamily) return [{ code: 'ipvs-missing', params: { answer: noFamily } }];
  const genl = await openIpvsFamily(transport).require();
  const key = { family: 'inet', fwmark: 1 } as const;
  const answer = await tryRequest(transport, NETLINK_GENERIC, newService(genl, key, { scheduler: 'rr' }));
  return answer ? [{ code: 'scheduler-missing', params: { scheduler: 'rr', answer } }] : [];
}

async function checkFirewall(netnsPath: string): Promise<PreflightFinding[]> {
  const findings = new Map<string, PreflightFinding>();
  const families = [['iptables-restore', '192.0.2.1'], ...(hasInet6() ? [['ip6tables-restore', '2001:db8::1']] : [])];
  for (const [command, destination] of families as [string, string][]) {
    const attempt = (rules: typeof PROBE_RULES) =>
      runInNetns(netnsPath, command, ['--noflush', '-w'], restoreText(rules, destination));
    try {
      await attempt(PROBE_RULES);
    } catch (thrown) {
      if (thrown instanceof MeshError && thrown.code === 'unsupported') {
        findings.set(command, { code: 'program-missing', params: { program: command } });
        continue;
      }
      // As one batch the failure does not name the operation; one by one it does.
      for (const probe of PROBE_RULES) {
        await attempt([probe]).catch((cause) => {
          const [, module, text] = probe;
          const rule = text.replace('DESTINATION', destination);
          findings.set(module, {
            code: 'iptables-extension-missing',
            params: { module, command, rule, answer: messageOf(cause) },
          });
        });
      }
    }
  }
  return [...findings.values()];
}

function restoreText(rules: typeof PROBE_RULES, destination: string): string {
  const tables = [...new Set(rules.map(([table]) => table))];
  return tables
    .map((table) => {
      const lines = rules
        .filter(([of]) => of === table)
        .map(([, , rule]) => `-A ${rule.replace('DESTINATION', destination)}\n`);
      return `*${table}\n${lines.join('')}COMMIT\n`;
    })
    .join('');
}

function hasInet6(): boolean {
  try {
    readFileSync('/proc/net/if_inet6');
    return true;
  } catch {
    return false;
  }
}

async function tryRequest(
  transport: Transport,
  protocol: number,
  request: NetlinkRequest,
): Promise<string | undefined> {
  const [outcome] = await transport.transact(SCRATCH_NETNS, protocol, [request]);
  if (!outcome || outcome.ok) return undefined;
  return outcome.text === undefined ? outcome.code : `${outcome.code} (${outcome.text})`;
}

import { readFileSync } from 'node:fs';
import { MeshError, messageOf } from '../../base/errors.ts';
import { type Finding, finding } from '../../model/doctor.ts';
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

/** include/uapi/linux/capability.h */
const CAPABILITIES = { CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21 } as const;
const PROBE_SET = 'preflight';
/** Everything the plan's rules use, one module's worth per line; none depends on anything else being there. */
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
 * Tries everything meshd requires of this kernel in an unnamed netns that is removed after the check. Loads modules,
 * changes nothing else. Empty when all is there.
 */
export async function runPreflight(): Promise<Finding[]> {
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
    const noSets = findings.some(({ params }) => params['module']?.startsWith('ip_set'));
    return [...findings, ...(noSets ? [] : await checkFirewall(scratch.path))];
  } finally {
    transport.close();
    scratch.end();
  }
}

function missingCapabilities(): Finding[] {
  const status = readFileSync('/proc/self/status', 'latin1');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return Object.entries(CAPABILITIES)
    .filter(([, bit]) => (effective & (1n << BigInt(bit))) === 0n)
    .map(([capability]) => finding('error', 'CapabilityMissing', { capability }));
}

async function checkLinks(transport: Transport): Promise<Finding[]> {
  const findings: Finding[] = [];
  const veth = await tryRequest(
    transport,
    NETLINK_ROUTE,
    newLink({ name: 'v0', config: { kind: 'veth', peer: { name: 'v1' } } }),
  );
  if (veth) findings.push(missingModule('veth', `a veth pair cannot be made: ${veth}`));
  const vxlan = await tryRequest(
    transport,
    NETLINK_ROUTE,
    newLink({ name: 'x0', config: { kind: 'vxlan', vni: 1, port: 4789, gbp: true, learning: false } }),
  );
  if (vxlan) findings.push(missingModule('vxlan', `a vxlan device with gbp cannot be made: ${vxlan}`));
  return findings;
}

const SET_TYPES = [
  ['bitmap:port', 'ip_set_bitmap_port'],
  ['hash:ip', 'ip_set_hash_ip'],
  ['hash:net,port', 'ip_set_hash_netport'],
  ['hash:net,port,net', 'ip_set_hash_netportnet'],
] as const;

async function checkSets(transport: Transport): Promise<Finding[]> {
  const missing: Finding[] = [];
  for (const [type, module] of SET_TYPES) {
    const problem = await tryRequest(transport, NETLINK_NETFILTER, getSetType(type));
    if (problem && !problem.includes('FIND_TYPE'))
      return [missingModule('ip_set', `the kernel does not know ipset: ${problem}`)];
    if (problem) missing.push(missingModule(module, `ipset has no type ${type}: ${problem}`));
  }
  if (missing.length > 0) return missing;
  const set = { name: PROBE_SET, type: 'bitmap:port', range: { from: 0, to: 65_535 }, skbinfo: true } as const;
  const problem = await tryRequest(transport, NETLINK_NETFILTER, createSet(set));
  return problem ? [missingModule('ip_set_bitmap_port', `a set of ports with skbinfo cannot be made: ${problem}`)] : [];
}

async function checkIpvs(transport: Transport): Promise<Finding[]> {
  const family = await tryRequest(transport, NETLINK_GENERIC, getGenlFamily(IPVS_GENL_NAME));
  if (family) return [missingModule('ip_vs', `the kernel has no IPVS: ${family}`)];
  const genl = await openIpvsFamily(transport).require();
  const key = { family: 'inet', fwmark: 1 } as const;
  const service = await tryRequest(transport, NETLINK_GENERIC, newService(genl, key, { scheduler: 'rr' }));
  return service ? [missingModule('ip_vs_rr', `a service with scheduler rr cannot be made: ${service}`)] : [];
}

async function checkFirewall(netnsPath: string): Promise<Finding[]> {
  const findings = new Map<string, Finding>();
  const families = [['iptables-restore', '192.0.2.1'], ...(hasInet6() ? [['ip6tables-restore', '2001:db8::1']] : [])];
  for (const [command, destination] of families as [string, string][]) {
    const attempt = (rules: typeof PROBE_RULES) =>
      runInNetns(netnsPath, command, ['--noflush', '-w'], restoreText(rules, destination));
    try {
      await attempt(PROBE_RULES);
    } catch (thrown) {
      if (thrown instanceof MeshError && thrown.code === 'unsupported') {
        findings.set(command, finding('error', 'ProgramMissing', { problem: thrown.message, package: 'iptables' }));
        continue;
      }
      // Together they fail without saying at what; one by one they say.
      for (const rule of PROBE_RULES) {
        await attempt([rule]).catch((cause) => {
          const [, module, text] = rule;
          findings.set(
            module,
            missingModule(
              module,
              `${command} refuses \`${text.replace('DESTINATION', destination)}\`: ${messageOf(cause)}`,
            ),
          );
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

function missingModule(name: string, problem: string): Finding {
  return finding('error', 'KernelModuleMissing', { module: name.split(' ', 1)[0]!, problem });
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

import { describe, expect, it } from 'vitest';
import { condition } from '../../model/condition.ts';
import { type Finding, finding, renderFinding } from '../../model/doctor.ts';
import type { PolicyRule } from '../../model/policy-rule.ts';
import { CAPABILITIES, emptyAssignment } from '../../plan/assignments.test-data.ts';
import { linksWithRouterAdvertisement } from './collect.ts';
import { checkFirewall, type FirewallFacts } from './firewall.ts';
import { checkUnderlay, type UnderlayFacts } from './link.ts';
import { checkNodeState, withoutRepeatedConditions } from './node-state.ts';
import { checkRouting } from './routing.ts';
import { checkSysctls, type SysctlFacts, sysctlsToRead } from './sysctls.ts';

const problems = (findings: readonly Finding[]) => findings.filter(({ level }) => level !== 'ok').map(renderFinding);

/** Every sysctl as it should be, but for these: `netns name=value`. */
function sysctls(...changes: string[]): SysctlFacts {
  const good: Record<string, string> = {
    'net.ipv4.ip_forward': '1',
    'net.ipv6.conf.all.forwarding': '1',
    'net.ipv4.conf.mesh0.route_localnet': '1',
    'net.ipv6.conf.eth0.accept_ra': '2',
    'net.netfilter.nf_conntrack_count': '100',
    'net.netfilter.nf_conntrack_max': '1000',
  };
  const values = new Map(
    [...sysctlsToRead(['eth0'])].map(([netns, names]) => [
      netns,
      new Map(names.map((name) => [name, good[name] ?? '0'])),
    ]),
  );
  for (const change of changes) {
    const [, netns = '', name = '', value = ''] = /^(\S+) (.+)=(.+)$/.exec(change) ?? [];
    values.get(netns)!.set(name, value);
  }
  return { values, inet6: true, advertised: ['eth0'] };
}

describe('sysctls', () => {
  it('are well as meshd sets them', () => {
    expect(problems(checkSysctls(sysctls()))).toEqual([]);
  });

  it.each([
    ['host net.ipv4.ip_forward=0', 'error', 'sysctl -w net.ipv4.ip_forward=1'],
    [
      'mesh-net-ingress net.ipv4.conf.vxlan0.rp_filter=1',
      'error',
      'ip netns exec mesh-net-ingress sysctl -w net.ipv4.conf.vxlan0.rp_filter=0',
    ],
    ['host net.ipv4.conf.mesh0.route_localnet=0', 'error', 'sysctl -w net.ipv4.conf.mesh0.route_localnet=1'],
    ['host net.ipv6.conf.eth0.accept_ra=1', 'warning', 'sysctl -w net.ipv6.conf.eth0.accept_ra=2'],
    ['host net.netfilter.nf_conntrack_count=800', 'warning', 'sysctl -w net.netfilter.nf_conntrack_max=4000'],
    ['host net.netfilter.nf_conntrack_count=990', 'error', 'sysctl -w net.netfilter.nf_conntrack_max=4000'],
  ])('%s', (change, level, remedy) => {
    expect(problems(checkSysctls(sysctls(change))).map((one) => [one.level, one.remedy])).toEqual([[level, remedy]]);
  });

  it.each(['nf_conntrack_count=800', 'nf_conntrack_count=1000'])(
    'with %s: the kernel drops packets that need an entry, so connections time out and are not refused',
    (change) => {
      const [found] = problems(checkSysctls(sysctls(`host net.netfilter.${change}`)));
      expect(found?.what).toMatch(/new connections time out(;|$)/);
    },
  );

  it('use the greater of all and the link: loose on the link overrides strict for all', () => {
    const all = 'mesh-lb net.ipv4.conf.all.rp_filter=1';
    expect(problems(checkSysctls(sysctls(all))).map(({ remedy }) => remedy)).toEqual([
      'ip netns exec mesh-lb sysctl -w net.ipv4.conf.all.rp_filter=0',
      'ip netns exec mesh-lb sysctl -w net.ipv4.conf.all.rp_filter=0',
      'ip netns exec mesh-lb sysctl -w net.ipv4.conf.all.rp_filter=0',
    ]);
    const loose = ['host0', 'net0', 'vxlan0'].map((link) => `mesh-lb net.ipv4.conf.${link}.rp_filter=2`);
    expect(problems(checkSysctls(sysctls(all, ...loose)))).toEqual([]);
  });

  it('know the links whose default route came by router advertisement', () => {
    const zeros = '0'.repeat(32);
    const line = (flags: string, link: string, destination = `${zeros} 00`) =>
      `${destination} ${zeros} 00 fe800000000000000000000000000001 00000400 00000002 00000000 ${flags}     ${link}`;
    const routes = [
      line('00450003', 'eth0'),
      line('00000003', 'eth1'),
      line('00440001', 'eth2', `20010db8${'0'.repeat(24)} 40`),
    ];
    expect(linksWithRouterAdvertisement(`${routes.join('\n')}\n`)).toEqual(['eth0']);
  });
});

describe('the underlay link', () => {
  const link = { name: 'eth0', mtu: 1_500, strict: false };
  const facts: UnderlayFacts = { address: '172.30.0.1', link, overlayMtu: 1_450, overhead: 50, features: undefined };
  const remedies = (change: Partial<UnderlayFacts>) =>
    problems(checkUnderlay({ ...facts, ...change })).map(({ level, remedy }) => `${level}: ${remedy}`);

  it('accepts the MTU that results from the overlay', () => {
    expect(remedies({})).toEqual([]);
    expect(remedies({ link: { ...link, mtu: 1_400 } })[0]).toMatch(/^error: if meshd does not follow the MTU/);
    expect(remedies({ link: { ...link, mtu: 9_000 } })[0]).toMatch(/^warning: if meshd does not follow the MTU/);
  });

  it('may corrupt checksums, unless offload is disabled', () => {
    const vmxnet3 = { ...link, driver: 'vmxnet3' };
    expect(remedies({ link: vmxnet3 })).toEqual([
      'warning: ethtool -K eth0 tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off',
    ]);
    expect(remedies({ link: vmxnet3, features: new Set(['tx-udp_tnl-segmentation']) })).toEqual([
      'warning: ethtool -K eth0 tx-udp_tnl-segmentation off',
    ]);
    expect(remedies({ link: vmxnet3, features: new Set(['rx-gro']) })).toEqual([]);
    expect(remedies({ link: { ...link, driver: 'virtio_net' } })).toEqual([]);
  });

  it('has to be there', () => {
    const { link: _, ...without } = facts;
    expect(problems(checkUnderlay(without))).toHaveLength(1);
  });
});

describe('routing rules of the host', () => {
  const rule = { family: 'inet', priority: 1_000, source: '198.51.100.1/32', fwmark: 0, fwmask: 0 } as const;
  const assignment = emptyAssignment(1, ['inet']);
  const check = (...rules: PolicyRule[]) => {
    const hostRouting = { rules, localSources: ['198.51.100.1/32'], strictReversePath: false };
    return checkRouting(assignment, { ...CAPABILITIES, hostRouting }).map(renderFinding);
  };

  it('are well when answers follow them', () => {
    for (const rules of [[], [{ ...rule, action: { lookup: 100 } }]]) {
      expect(check(...rules).map(({ level, code }) => [level, code])).toEqual([['ok', 'RoutingRulesFollowed']]);
    }
  });

  it('that answers cannot follow, or cannot avoid, are named', () => {
    const byUser: PolicyRule = { ...rule, others: true, action: { lookup: 100 } };
    const wide: PolicyRule = { ...rule, source: '10.0.0.0/8', priority: 1_001, action: { lookup: 101 } };
    expect(check(byUser, wide)).toMatchObject([
      { level: 'warning', what: expect.stringContaining('"priority 1000 from 198.51.100.1 lookup 100"') },
      { level: 'warning', what: expect.stringContaining('"priority 1001 from 10.0.0.0/8 lookup 101"') },
    ]);
  });

  it('are not judged before the node has an assignment and knows them', () => {
    expect(checkRouting(undefined, CAPABILITIES)).toEqual([]);
    expect(checkRouting(assignment, CAPABILITIES)).toEqual([]);
  });
});

describe('packet filters', () => {
  const facts: FirewallFacts = {
    rules: undefined,
    command: 'iptables',
    ruleset: '',
    underlay: '172.30.0.2',
    link: undefined,
    unreachable: ['172.30.0.1'],
  };
  const remedies = (change: Partial<FirewallFacts>) =>
    checkFirewall({ ...facts, ...change }).map((found) => renderFinding(found).remedy);
  const filter = (...lines: string[]) => `*filter\n:INPUT ACCEPT [0:0]\n${lines.join('\n')}\nCOMMIT\n`;

  it('are suspected only when a node does not answer', () => {
    const rules = filter('-A INPUT -p udp -m udp --dport 4789 -j DROP');
    expect(remedies({ rules })).toEqual(['iptables -t filter -D INPUT -p udp -m udp --dport 4789 -j DROP']);
    expect(remedies({ rules, unreachable: [] })).toEqual([]);
  });

  it.each([
    ['-A INPUT -p udp -m multiport --dports 53,4000:5000 -j REJECT', true],
    ['-A INPUT -p udp -m multiport --dports 53,5000:6000 -j REJECT', false],
    ['-A INPUT -p tcp -m tcp --dport 4789 -j DROP', false],
    ['-A INPUT -s 172.30.0.1/32 -j DROP', true],
    ['-A INPUT -s 172.30.0.10/32 -j DROP', false],
    ['-A INPUT -s 172.30.0.1/32 -p tcp -m tcp --dport 22 -j DROP', false],
    ['-A MESH-INPUT -p udp -m udp --dport 4789 -j DROP', false],
  ])('%s: %s', (line, guilty) => {
    expect(remedies({ rules: filter(line) })).toHaveLength(guilty ? 1 : 0);
  });

  it('that drop by default are named with the command that opens them, in the syntax of their tool', () => {
    expect(remedies({ rules: '*filter\n:INPUT DROP [0:0]\nCOMMIT\n' })).toEqual([
      'iptables -I INPUT -s 172.30.0.1 -p udp --dport 4789 -j ACCEPT',
    ]);
    expect(remedies({ rules: '*filter\n:INPUT DROP [0:0]\n-A ufw-before-input -i lo -j ACCEPT\nCOMMIT\n' })).toEqual([
      'ufw allow from 172.30.0.1 to any port 4789 proto udp',
    ]);
    expect(remedies({ rules: filter('-A INPUT -j REJECT --reject-with icmp-port-unreachable') })).toHaveLength(1);
  });

  it('of INPUT are no suspects where meshd has opened them', () => {
    const ours =
      '-A INPUT -j MESH-INPUT\n-A MESH-INPUT -p udp -m udp --dport 4789 -m set --match-set mesh-peers-4 src -j ACCEPT\n';
    expect(remedies({ rules: `*filter\n:INPUT DROP [0:0]\n${ours}COMMIT\n` })).toEqual([]);
    expect(
      remedies({ rules: `*filter\n:OUTPUT DROP [0:0]\n${ours}COMMIT\n`, unreachable: ['10.0.0.1', '10.0.0.2'] }),
    ).toEqual([
      'iptables -I OUTPUT -d 10.0.0.1 -p udp --dport 4789 -j ACCEPT && iptables -I OUTPUT -d 10.0.0.2 -p udp --dport 4789 -j ACCEPT',
    ]);
  });

  it('of nftables itself are read too', () => {
    const table = (name: string, ...rules: string[]) =>
      `table inet ${name} {\n\tchain in {\n\t\ttype filter hook input priority filter; policy accept;\n${rules
        .map((rule) => `\t\t${rule}\n`)
        .join('')}\t}\n}\n`;
    expect(
      remedies({ ruleset: table('firewalld', 'iifname "lo" accept', 'reject with icmpx admin-prohibited') }),
    ).toEqual([
      "firewall-cmd --add-rich-rule='rule family=ipv4 source address=172.30.0.1 port port=4789 protocol=udp accept'",
    ]);
    expect(remedies({ ruleset: table('mine', 'udp dport { 53, 4789 } drop') })).toEqual([
      'nft insert rule inet mine in ip saddr 172.30.0.1 udp dport 4789 accept',
    ]);
    expect(remedies({ ruleset: table('mine', 'udp dport 53 drop') })).toEqual([]);
    expect(remedies({ ruleset: table('filter', 'udp dport 4789 drop') })).toEqual([]);
  });

  it('include strict rp_filter, which is right for a host with one way out', () => {
    expect(remedies({ link: { name: 'eth0.5', strict: true } })).toEqual([
      'sysctl -w net.ipv4.conf.eth0/5.rp_filter=2',
    ]);
  });
});

describe('the node itself', () => {
  const well = {
    stateDir: '/var/lib/meshd',
    disk: { free: 2 ** 34, size: 2 ** 36 },
    steps: [],
    stepsError: '',
    conditions: [],
    portConditions: [],
  };
  const levels = (change: Partial<Parameters<typeof checkNodeState>[0]>) =>
    problems(checkNodeState({ ...well, ...change })).map(({ level, check }) => `${level} ${check}`);

  it.each<[Partial<Parameters<typeof checkNodeState>[0]>, string[]]>([
    [{}, []],
    [{ disk: { free: 2 ** 25, size: 2 ** 36 } }, ['error disk']],
    [{ disk: { free: 2 ** 28, size: 2 ** 36 } }, ['warning disk']],
    // A small disk may be as full as it likes while there is room for what we write.
    [{ disk: { free: 2 ** 28, size: 2 ** 29 } }, []],
    [{ steps: ['ip link set x up'] }, ['warning kernel']],
    [{ stepsError: 'gone' }, ['error kernel']],
    [{ conditions: [condition('ManagerUnreachable', { reason: 'ECONNREFUSED' })] }, ['error condition']],
    [
      { portConditions: [{ protocol: 'tcp', published: 8080, kind: 'taken', message: 'nginx listens' }] },
      ['warning port'],
    ],
  ])('%j', (change, expected) => {
    expect(levels(change)).toEqual(expected);
  });

  it('a condition that another check found, too, is one finding', () => {
    const address = { address: '192.0.2.1' };
    const findings = withoutRepeatedConditions([
      finding('error', 'UnderlayAddressMissing', address),
      finding('ok', 'DiskSpace', { directory: '/', free: 1, size: 2 }),
      { level: 'error', ...condition('UnderlayAddressMissing', address) },
      { level: 'error', ...condition('ManagerUnreachable', { reason: 'ECONNREFUSED' }) },
    ]);
    expect(findings.map(({ code }) => code)).toEqual(['UnderlayAddressMissing', 'DiskSpace', 'ManagerUnreachable']);
    expect(findings.map((each) => renderFinding(each).check)).toEqual(['underlay', 'disk', 'condition']);
  });
});

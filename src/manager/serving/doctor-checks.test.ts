import { describe, expect, it } from 'vitest';
import { node } from '../../decide/cluster.test-data.ts';
import { type DoctorReport, type Finding, finding } from '../../model/doctor.ts';
import type { NodeCheckup } from '../../rpc/messages.ts';
import { type CheckupReply, evaluateCluster } from './doctor-checks.ts';

const nodes = [1, 2, 3].map((number) => node(number, { underlay: `172.30.0.${number}` }));

function checkup(number: number, change: Partial<DoctorReport> = {}): CheckupReply {
  const others = nodes.filter((_, index) => index + 1 !== number);
  const echoes = others.map(({ id, underlay }) => ({ nodeId: id, underlay, small: 0.5, full: 0.612 }));
  const said = {
    now: 10_500,
    took: 400,
    version: '1',
    findings: [finding('ok', 'KernelMatches', {})],
    overlayMtu: 1_450,
    echoes,
  };
  return { nodeId: `n${number}`, sent: 10_000, received: 11_000, checkup: { ...said, ...change } };
}

const bad = (rows: readonly NodeCheckup[]) =>
  rows.flatMap(({ nodeName, findings }) =>
    findings
      .filter(({ level }) => level !== 'ok')
      .map(({ level, check, what }) => `${nodeName} ${level} ${check}: ${what}`),
  );
const judged = (...checkups: CheckupReply[]) => evaluateCluster(nodes, nodes, checkups, '1');

describe('doctor', () => {
  it('has no findings for a healthy cluster, and reports all pairs', () => {
    const rows = judged(checkup(1), checkup(2), checkup(3));
    expect(bad(rows)).toEqual([]);
    expect(rows.flatMap(({ findings }) => findings)).toHaveLength(18);
    expect(rows[1]?.paths).toEqual([
      { node: 'node1', address: '172.30.0.1', small: 0.5, full: 0.61 },
      { node: 'node3', address: '172.30.0.3', small: 0.5, full: 0.61 },
    ]);
  });

  it.each<[string, number, string | undefined]>([
    ['anywhere between question and answer', 10_000, undefined],
    ['slightly beyond', 11_500, undefined],
    ['two seconds behind', 8_000, "node1 warning clock: the clock is at least 2.0 s behind the manager's"],
    ['an hour ahead', 3_610_600, "node1 error clock: the clock is at least 3600.0 s ahead of the manager's"],
  ])('checks a clock %s', (_, now, expected) => {
    expect(bad(judged(checkup(1, { now }), checkup(2), checkup(3)))).toEqual(expected === undefined ? [] : [expected]);
  });

  it('distinguishes a lost node from one that loses long packets', () => {
    const silent = checkup(1, { echoes: [{ nodeId: 'n2', underlay: '172.30.0.2' }] });
    const short = checkup(2, { echoes: [{ nodeId: 'n3', underlay: '172.30.0.3', small: 1 }] });
    const rows = judged(silent, short, checkup(3));
    expect(bad(rows)).toEqual([
      'node1 error path: no answer from node2 (172.30.0.2) through VXLAN: udp/4789 is dropped on the way there or back',
      'node2 error path: packets of full size to node3 are lost or their answers are: 1450 bytes in VXLAN are 1500 on the underlay, small ones arrive',
    ]);
    expect(rows[1]?.findings.find(({ check }) => check === 'path')?.remedy).toMatch(
      /^ping -M do -s 1472 172\.30\.0\.3 /,
    );
    expect(rows[0]?.paths).toEqual([{ node: 'node2', address: '172.30.0.2' }]);
  });

  it('reports once that a node is down, not for each that does not reach it', () => {
    const down = nodes.map((node) => (node.name === 'node3' ? { ...node, state: 'down' as const } : node));
    const echoes = [{ nodeId: 'n3', underlay: '172.30.0.3' }];
    const rows = evaluateCluster(down, down, [checkup(1, { echoes }), checkup(2, { echoes })], '1');
    expect(bad(rows)).toEqual(['node3 error node: node3 is down']);
  });

  const lost = (number: number) => ({ nodeId: `n${number}`, underlay: `172.30.0.${number}` });
  const small = (number: number) => ({ ...lost(number), small: 1 });
  const fine = (number: number) => ({ ...small(number), full: 1 });
  const beforeColon = (line: string) => line.slice(0, line.indexOf(':'));

  it('reports a node that reaches no other once, and no path of the others to it', () => {
    const rows = judged(
      checkup(1, { echoes: [fine(2), lost(3)] }),
      checkup(2, { echoes: [fine(1), lost(3)] }),
      checkup(3, { echoes: [lost(1), lost(2)] }),
    );
    expect(bad(rows)).toEqual([
      'node3 error path: no answer from any other node (node1, node2) through VXLAN: udp/4789 is dropped at this node or on its network',
    ]);
    expect(rows[0]?.paths).toContainEqual({ node: 'node3', address: '172.30.0.3' });
  });

  it('the same for packets of full size', () => {
    const rows = judged(
      checkup(1, { echoes: [fine(2), small(3)] }),
      checkup(2, { echoes: [fine(1), small(3)] }),
      checkup(3, { echoes: [small(1), small(2)] }),
    );
    expect(bad(rows)).toEqual([expect.stringMatching(/^node3 error path: packets of full size between this node/)]);
  });

  it('reports a broken pair once', () => {
    const rows = judged(
      checkup(1, { echoes: [lost(2), fine(3)] }),
      checkup(2, { echoes: [lost(1), fine(3)] }),
      checkup(3),
    );
    expect(bad(rows)).toEqual([expect.stringMatching(/^node1 error path: no answer from node2 /)]);
  });

  const rule = { table: 'filter', chain: 'INPUT', command: 'iptables -D …' };
  it.each<[string, Finding, string[]]>([
    [
      'a missing address',
      finding('error', 'UnderlayAddressMissing', { address: '172.30.0.3' }),
      ['node3 error underlay'],
    ],
    [
      'a rule about all nodes',
      finding('error', 'FirewallRuleDropsVxlan', { ...rule, rule: '-p udp --dport 4789 -j DROP' }),
      ['node3 error firewall'],
    ],
    [
      'a rule about another node',
      finding('error', 'FirewallRuleDropsVxlan', { ...rule, rule: '-s 172.30.0.1/32 -j DROP' }),
      ['node2 error path', 'node3 error firewall'],
    ],
    ['a warning', finding('warning', 'DiskNearlyFull', { directory: '/', free: 1, size: 2 }), ['node3 error path']],
  ])('lost packets beside a cause that the node found in itself: %s', (_, cause, expected) => {
    const rows = judged(
      checkup(1, { echoes: [fine(2), lost(3)] }),
      checkup(2, { echoes: [fine(1), lost(3)] }),
      checkup(3, { echoes: [lost(1), lost(2)], findings: [cause] }),
    );
    const errors = bad(rows).filter((line) => line.includes(' error '));
    expect(errors.map(beforeColon)).toEqual(expected);
  });

  it('long packets to a node with a smaller overlay MTU are explained by it', () => {
    const rows = judged(
      checkup(1, { echoes: [fine(2), small(3)] }),
      checkup(2, { echoes: [fine(1), small(3)] }),
      checkup(3, { overlayMtu: 1_350 }),
    );
    expect(bad(rows).map(beforeColon)).toEqual(['node1 warning mtu', 'node2 warning mtu']);
  });

  it('reports why a node did not reply', () => {
    const failed: CheckupReply = { nodeId: 'n2', sent: 0, received: 1, error: 'node2 is not connected' };
    expect(bad(judged(checkup(1), failed, checkup(3)))).toEqual([
      'node2 error node: node2 could not be asked: node2 is not connected',
    ]);
  });

  it('compares versions and overlays', () => {
    expect(bad(judged(checkup(1), checkup(2, { version: '2', overlayMtu: 1_350 }), checkup(3)))).toEqual([
      'node1 warning mtu: the overlay has an MTU of 1450 bytes here and only 1350 on another node: long UDP packets to it are lost',
      "node2 warning version: meshd is 2, the manager's node has 1",
      'node3 warning mtu: the overlay has an MTU of 1450 bytes here and only 1350 on another node: long UDP packets to it are lost',
    ]);
  });
});

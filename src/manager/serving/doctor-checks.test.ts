import { describe, expect, it } from 'vitest';
import { node } from '../../decide/cluster.test-data.ts';
import { type DoctorReport, finding } from '../../model/doctor.ts';
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

import { expect, it } from 'vitest';
import type { ClusterIndex } from './cluster-index.ts';
import { createNodeReports } from './node-reports.ts';

it('tells a refused step once, in the words of the agent', () => {
  const reports = createNodeReports({} as ClusterIndex, () => false);
  reports.onAck('n1', 3, ['ipset add mesh-pub-tcp 8080: EPERM', 'ip link add vxlan0: EEXIST']);
  expect(reports.conditions('n1')).toEqual([
    'kernel: ipset add mesh-pub-tcp 8080: EPERM',
    'kernel: ip link add vxlan0: EEXIST',
  ]);
  const refused = 'the kernel refused: ipset add mesh-pub-tcp 8080: EPERM (and 1 more)';
  reports.onConditions('n1', [refused]);
  expect(reports.conditions('n1')).toEqual([refused, 'kernel: ip link add vxlan0: EEXIST']);
});

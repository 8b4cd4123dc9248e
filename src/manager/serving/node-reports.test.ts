import { expect, it } from 'vitest';
import { condition } from '../../model/condition.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { createNodeReports } from './node-reports.ts';

it('shows an operation that the kernel rejected once', () => {
  const reports = createNodeReports({} as ClusterIndex, () => false);
  reports.onAck('n1', 3, ['ipset add mesh-pub-tcp 8080: EPERM', 'ip link add vxlan0: EEXIST']);
  expect(reports.conditions('n1')).toEqual([
    'kernel: ipset add mesh-pub-tcp 8080: EPERM',
    'kernel: ip link add vxlan0: EEXIST',
  ]);
  const rejected = condition('KernelOperationFailed', { error: 'ipset add mesh-pub-tcp 8080: EPERM', count: 2 });
  reports.onConditions('n1', [rejected]);
  expect(reports.conditions('n1')).toEqual([
    expect.stringMatching(/^KernelOperationFailed: the kernel rejected ipset add mesh-pub-tcp 8080: EPERM /),
    'kernel: ip link add vxlan0: EEXIST',
  ]);
});

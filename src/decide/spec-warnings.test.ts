import { expect, test } from 'vitest';
import type { PortSpec, Scheduler } from '../model/spec.ts';
import { service } from './cluster.test-data.ts';
import { specWarnings } from './spec-warnings.ts';

const port = (scheduler?: Scheduler, mode: PortSpec['mode'] = 'ingress'): PortSpec => ({
  protocol: 'tcp',
  target: 80,
  mode,
  ...(scheduler === undefined ? {} : { scheduler }),
});
const weight = { default: 5 };

test('weights that no scheduler uses', () => {
  for (const ports of [[port()], [port('lc'), port()], [port('wrr', 'host')]]) {
    expect(specWarnings(service({ ports, weight }).spec)).toEqual([{ code: 'WeightUnused', params: {} }]);
  }
  for (const ports of [[], [port('wrr')], [port(), port('sh')]]) {
    expect(specWarnings(service({ ports, weight }).spec)).toEqual([]);
  }
  expect(specWarnings(service({ ports: [port()] }).spec)).toEqual([]);
});

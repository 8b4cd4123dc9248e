import { expect, test } from 'vitest';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';
import { service } from './cluster.test-data.ts';
import { applyUpdate, type ServiceUpdate } from './update.ts';

const port = (published: number | undefined, target: number, more: Partial<PortSpec> = {}): PortSpec => ({
  protocol: 'tcp',
  target,
  mode: 'ingress',
  ...(published === undefined ? {} : { published }),
  ...more,
});

const update = (spec: Partial<ServiceSpec>, requested: Partial<ServiceUpdate>): ServiceSpec =>
  applyUpdate(service(spec).spec, { force: false, publishAdd: [], publishRemove: [], ...requested });

const ports = (before: PortSpec[], requested: Partial<ServiceUpdate>): PortSpec[] =>
  update({ ports: before }, requested).ports;

test('ports are added and removed, removals first', () => {
  const before = [port(8080, 80), port(53, 53, { protocol: 'udp' })];
  expect(ports(before, { publishAdd: [port(8081, 81)] })).toEqual([...before, port(8081, 81)]);
  expect(ports(before, { publishRemove: [port(undefined, 80)] })).toEqual([before[1]]);
  expect(ports(before, { publishRemove: [port(undefined, 80)], publishAdd: [port(9000, 80)] })).toEqual([
    before[1],
    port(9000, 80),
  ]);
  // Removes every published port of the target, as Docker does.
  expect(ports([port(1, 80), port(2, 80)], { publishRemove: [port(undefined, 80)] })).toEqual([]);
});

test('an existing port keeps its options; another target keeps its access restrictions', () => {
  const closed = port(8080, 80, { allowFrom: ['10.0.0.0/8'], policy: 'local', scheduler: 'mh' });
  expect(ports([closed], { publishAdd: [port(8080, 80)] })).toEqual([closed]);
  expect(ports([closed], { publishAdd: [port(8080, 81)] })).toEqual([{ ...closed, target: 81 }]);
  expect(ports([closed], { publishAdd: [port(8080, 80, { mode: 'host' })] })).toEqual([
    port(8080, 80, { mode: 'host', allowFrom: ['10.0.0.0/8'] }),
  ]);
  expect(ports([closed], { publishAdd: [port(8080, 80, { addresses: ['10.0.0.1/32'] })] })).toEqual([
    { ...closed, addresses: ['10.0.0.1/32'] },
  ]);
});

test('a port that is bound on demand stays so in another mode, but not with another target', () => {
  const passive = port(8080, 80, { ready: false });
  expect(ports([passive], { publishAdd: [port(8080, 80, { mode: 'host' })] })).toEqual([
    port(8080, 80, { mode: 'host', ready: false }),
  ]);
  expect(ports([passive], { publishAdd: [port(8080, 81)] })).toEqual([port(8080, 81)]);
});

test('without a number it is the port of the same target whose number was allocated, else a new one', () => {
  const chosen = port(30_007, 80, { allowFrom: ['10.0.0.0/8'] });
  const picked = port(undefined, 80, { mode: 'host' });
  expect(ports([chosen, picked], { publishAdd: [port(undefined, 80), picked] })).toEqual([chosen, picked]);
  const named = port(8080, 80);
  expect(ports([named], { publishAdd: [port(undefined, 80)] })).toEqual([named, port(undefined, 80)]);
  expect(ports([chosen], { publishAdd: [port(undefined, 80, { protocol: 'udp' })] })).toHaveLength(2);
});

test.each([
  [port(undefined, 8080), 'did you mean 80/tcp?'],
  [port(undefined, 90), 'did you mean target=90,protocol=tcp,mode=host?'],
  [port(undefined, 80, { protocol: 'udp' }), 'see `meshctl port ls`'],
])('removing a port that is not published: %j', (removed, hint) => {
  const before = [port(8080, 80), port(undefined, 90, { mode: 'host' })];
  expect(() => ports(before, { publishRemove: [removed] })).toThrow(
    `service web publishes no target port ${removed.target}/${removed.protocol} in mode ingress; ${hint}`,
  );
});

test('replicas, and forced replacement of tasks', () => {
  expect(update({}, { replicas: 0 }).replicas).toBe(0);
  expect(() => update({ mode: 'global' }, { replicas: 2 })).toThrow('is global');
  expect(update({}, {})).not.toHaveProperty('forced');
  expect(update({}, { force: true }).forced).toBe(1);
  expect(update({ forced: 4 }, { force: true }).forced).toBe(5);
});

import { expect, test } from 'vitest';
import type { PortSpec } from '../model/spec.ts';
import { admit } from './admit.ts';
import { service } from './cluster.test-data.ts';

const port = (published: number | undefined, more: Partial<PortSpec> = {}): PortSpec => ({
  protocol: 'tcp',
  target: 80,
  mode: 'ingress',
  ...(published === undefined ? {} : { published }),
  ...more,
});

const other = { ...service({ ports: [port(8080)] }), id: 'other1', name: 'other' };

test('a port has one owner for each protocol, and the error names it', () => {
  const requested = service({ ports: [port(8080)] }).spec;
  expect(() => admit(requested, undefined, [other])).toThrow(
    "port '8080/tcp' is already in use by service 'other' (other1) as an ingress port",
  );
  expect(admit(service({ ports: [port(8080, { protocol: 'udp' })] }).spec, undefined, [other]).action).toBe('created');
});

test('a service does not conflict with itself', () => {
  const mine = service({});
  expect(admit(mine.spec, mine, [mine, { ...other, spec: { ...other.spec, ports: [] } }])).toMatchObject({
    action: 'unchanged',
    changes: [],
  });
});

test('two services may publish the same host port, but not a host and an ingress port of one number', () => {
  const host = service({ ports: [port(9000, { mode: 'host' })] });
  expect(admit(host.spec, undefined, [{ ...host, id: 'x', name: 'x' }]).action).toBe('created');
  expect(() => admit(service({ ports: [port(9000)] }).spec, undefined, [host])).toThrow('host-published');
});

test('automatic ports are allocated once and kept, separately for each protocol', () => {
  const first = admit(service({ ports: [port(undefined), port(undefined, { protocol: 'udp' })] }).spec, undefined, []);
  expect(first.spec.ports.map((each) => each.published)).toEqual([30_000, 30_000]);
  const stored = { ...service({}), spec: first.spec };
  const rival = { ...other, spec: { ...other.spec, ports: [port(30_001)] } };
  const grown = service({ ports: [port(undefined, { target: 81 }), port(undefined)] }).spec;
  expect(admit(grown, stored, [rival]).spec.ports.map((each) => each.published)).toEqual([30_002, 30_000]);
});

test('only changes of the task template replace tasks', () => {
  const stored = service({});
  const ports = admit(service({ ports: [port(8080), port(9090)], replicas: 4 }).spec, stored, [stored]);
  expect(ports).toMatchObject({ action: 'updated', newGeneration: false });
  expect(ports.changes).toEqual(['replicas 1 → 4', 'port 9090:80/tcp added']);
  expect(admit(service({ environment: { SECRET: 'x' } }).spec, stored, [stored])).toMatchObject({
    newGeneration: true,
    changes: ['environment changed'],
  });
});

test('a health check is part of the task template; ports, weights and update options are not', () => {
  const stored = service({ ports: [port(8080, { scheduler: 'wlc' })] });
  const health = {
    probe: { kind: 'tcp', port: 80 },
    interval: 1,
    timeout: 1,
    retries: 1,
    startPeriod: 0,
    startInterval: 1,
  } as const;
  expect(admit({ ...stored.spec, health }, stored, [])).toMatchObject({
    newGeneration: true,
    changes: ['health check changed'],
  });
  const change: PortSpec = {
    ...port(8080),
    policy: 'local',
    scheduler: 'sh',
    fallback: 'lc',
    schedulerFlags: ['sh-port'],
    persistence: { timeout: 1000, prefix: { inet: 24, inet6: 128 } },
    idleTimeout: 1000,
    nodes: [{ key: 'node.role', operator: '==', value: 'worker' }],
    addresses: ['10.0.0.0/8'],
    allowFrom: ['10.0.0.0/8'],
  };
  const update = { parallelism: 2, delay: 0, order: 'stop-first' } as const;
  expect(admit({ ...stored.spec, ports: [change], update, weight: { default: 5 } }, stored, [])).toMatchObject({
    action: 'updated',
    newGeneration: false,
    changes: [
      'port 8080:80/tcp: scheduler wlc → sh',
      'port 8080:80/tcp: fallback rr → lc',
      'port 8080:80/tcp: policy cluster → local',
      'port 8080:80/tcp: scheduler_flags changed',
      'port 8080:80/tcp: persistence changed',
      'port 8080:80/tcp: idle_timeout changed',
      'port 8080:80/tcp: ingress.nodes changed',
      'port 8080:80/tcp: ingress.addresses changed',
      'port 8080:80/tcp: allow_from changed',
      'update_config changed',
      'weight changed',
    ],
  });
  const host = admit({ ...stored.spec, ports: [port(8080, { mode: 'host' })] }, stored, []);
  expect(host.changes).toEqual(['host port 8080:80/tcp added', 'port 8080:80/tcp removed']);
});

test('a forced update is kept when a manifest is applied again', () => {
  const stored = service({});
  const forced = admit({ ...stored.spec, forced: 1 }, stored, []);
  expect(forced).toMatchObject({ action: 'updated', newGeneration: true, changes: ['all tasks are replaced'] });
  const now = { ...stored, spec: forced.spec };
  expect(admit(stored.spec, now, [])).toMatchObject({ action: 'unchanged', newGeneration: false });
  expect(admit({ ...stored.spec, replicas: 9 }, now, [])).toMatchObject({
    newGeneration: false,
    changes: ['replicas 1 → 9'],
    spec: { forced: 1 },
  });
});

test('the order of ports has no effect', () => {
  const stored = service({ ports: [port(8080), port(80, { protocol: 'udp' }), port(undefined, { mode: 'host' })] });
  expect(admit({ ...stored.spec, ports: stored.spec.ports.toReversed() }, stored, []).action).toBe('unchanged');
});

test('a duplicate port in a service is rejected, also without a published number', () => {
  const twice = (...ports: PortSpec[]) => admit(service({ ports }).spec, undefined, []);
  expect(() => twice(port(8080), port(8080, { target: 81, mode: 'host' }))).toThrow('publishes port 8080/tcp twice');
  const picked = port(undefined, { mode: 'host' });
  expect(() => twice(picked, picked)).toThrow('publishes host port ?:80/tcp twice');
  expect(twice(port(undefined), picked).spec.ports.map(({ published }) => published)).toEqual([30_000, undefined]);
});

test('the mode of a service cannot be changed', () => {
  expect(() => admit(service({ mode: 'global' }).spec, service({}), [])).toThrow('meshctl service rm web');
});

test('a duplicate port in a service is rejected, the same number in two protocols is not', () => {
  const twice = service({ ports: [port(8080), port(8080, { target: 81 })] }).spec;
  expect(() => admit(twice, undefined, [])).toThrow('service web publishes port 8080/tcp twice');
  const both = service({ ports: [port(53), port(53, { protocol: 'udp' })] }).spec;
  expect(admit(both, undefined, []).action).toBe('created');
});

test.each([
  [2377, 'tcp', 'published port 2377/tcp is reserved for the manager on every node; choose another'],
  [2378, 'tcp', 'published port 2378/tcp is reserved for the health endpoint on every node; choose another'],
  [4789, 'udp', 'published port 4789/udp is reserved for VXLAN on every node; choose another'],
  [22, 'tcp', 'published port 22/tcp is reserved for sshd on every node; choose another'],
] as const)('%d/%s belongs to the nodes themselves', (published, protocol, words) => {
  const requested = service({ ports: [port(published, { protocol })] });
  expect(() => admit(requested.spec, undefined, [])).toThrow(words);
  expect(() => admit(requested.spec, service({}), [])).toThrow(words);
  const otherwise = protocol === 'tcp' ? 'udp' : 'tcp';
  expect(admit(service({ ports: [port(published, { protocol: otherwise })] }).spec, undefined, []).action).toBe(
    'created',
  );
  // A service that published it before it became reserved can still be scaled.
  expect(admit({ ...requested.spec, replicas: 4 }, requested, [requested]).action).toBe('updated');
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Node, Task } from '../model/cluster.ts';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';
import { isTerminal } from '../model/task-state.ts';
import { Cluster, expectNoSharedHostPorts, node, service } from './cluster.test-data.ts';

const live = (tasks: readonly Task[]) =>
  tasks.filter((task) => task.desired === 'running' && !isTerminal(task.status.state));

describe('a replicated service', () => {
  test('gets its tasks on suitable nodes only, spread evenly', () => {
    const cluster = new Cluster([node(1), node(2), node(3)]);
    cluster.apply(service({ replicas: 4, constraints: [{ key: 'node.hostname', operator: '!=', value: 'NODE1' }] }));
    cluster.settle();
    expect(
      cluster
        .running()
        .map((task) => task.nodeId)
        .sort(),
    ).toEqual(['n2', 'n2', 'n3', 'n3']);
  });

  test('stays pending with a reason while no node is suitable, and starts when one is', () => {
    const cluster = new Cluster([node(1), node(2, { state: 'down' })]);
    cluster.apply(service({ replicas: 1, constraints: [{ key: 'node.labels.zone', operator: '==', value: 'a' }] }));
    cluster.settle();
    expect(cluster.tasks[0]?.status).toMatchObject({
      state: 'pending',
      message: 'no suitable node: of 2, 1 down, 1 not node.labels.zone == a',
    });
    cluster.nodes = [node(1, { labels: { zone: 'A' } })];
    cluster.settle();
    expect(cluster.running()).toHaveLength(1);
  });

  test.each([['UnderlayAddressMissing'], ['UnderlayDisconnected'], ['DiskNearlyFull'], ['KernelUnavailable']])(
    'gets no new task on a node with %s; tasks that run there stay',
    (code) => {
      const cluster = new Cluster([node(1), node(2)]);
      cluster.apply(service({ replicas: 2 }));
      cluster.settle();
      const before = cluster.running().map(({ id }) => id);
      cluster.nodes = [node(1), node(2, { impairments: [code] })];
      cluster.apply(service({ replicas: 5 }));
      cluster.settle();
      expect(cluster.running().map(({ nodeId }) => nodeId)).toEqual(['n1', 'n2', 'n1', 'n1', 'n1']);
      expect(
        cluster
          .running()
          .slice(0, 2)
          .map(({ id }) => id),
      ).toEqual(before);
      cluster.nodes = [node(2, { impairments: [code] })];
      cluster.settle();
      expect(cluster.tasks.find(({ status }) => status.state === 'pending')?.status.message).toBe(
        `no suitable node: of 1, 1 with ${code}`,
      );
    },
  );

  test('gets new tasks on a node with a full connection table only if no other is suitable', () => {
    const cluster = new Cluster([node(1, { impairments: ['ConntrackFull'] }), node(2)]);
    cluster.apply(service({ replicas: 3 }));
    cluster.settle();
    expect(cluster.running().map(({ nodeId }) => nodeId)).toEqual(['n2', 'n2', 'n2']);
    cluster.nodes = [node(1, { impairments: ['ConntrackFull'] }), node(2, { availability: 'pause' })];
    cluster.apply(service({ replicas: 4 }));
    cluster.settle();
    expect(cluster.running().map(({ nodeId }) => nodeId)).toEqual(['n2', 'n2', 'n2', 'n1']);
  });

  test.each([
    [{ impairments: ['ConntrackFull', 'DiskNearlyFull'] }, 'node2 accepts no new tasks: it has DiskNearlyFull'],
    [{ availability: 'pause' as const }, 'node2 accepts no new tasks: it is paused'],
  ])('global, says why a node has no task yet: %o', (about, message) => {
    const cluster = new Cluster([node(1), node(2, about)]);
    cluster.apply(service({ mode: 'global' }));
    cluster.settle();
    expect(cluster.tasks.find(({ status }) => status.state === 'pending')?.status.message).toBe(message);
  });

  test('scaled down, the highest slots drain first and stop only after every node has acknowledged and connections ended', () => {
    const cluster = new Cluster([node(1), node(2)]);
    cluster.apply(service({ replicas: 3 }));
    cluster.settle();
    cluster.acknowledgements = false;
    cluster.apply(service({ replicas: 1 }));
    cluster.settle();
    const leaving = cluster.tasks.filter((task) => task.desired === 'drain');
    expect(leaving.map((task) => task.slot).sort()).toEqual([2, 3]);
    expect(cluster.running()).toHaveLength(3);
    cluster.acknowledgements = true;
    cluster.connections.set(leaving[0]!.id, 2);
    cluster.settle();
    expect(cluster.running()).toHaveLength(2);
    cluster.connections.clear();
    cluster.settle();
    expect(cluster.running().map((task) => task.slot)).toEqual([1]);
  });

  test('a drain ends with the grace period even if connections are open', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ replicas: 1, stopGracePeriod: 5_000 }));
    cluster.settle();
    cluster.connections.set(cluster.tasks[0]!.id, 1);
    cluster.apply(service({ replicas: 0, stopGracePeriod: 5_000 }));
    cluster.settle();
    expect(cluster.running()).toHaveLength(1);
    expect(cluster.wakeAt).toBe(cluster.now + 5_000);
    cluster.now += 5_000;
    cluster.settle();
    expect(cluster.running()).toHaveLength(0);
  });

  test('a failed task is replaced at once, then with increasing delays', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ replicas: 1 }));
    cluster.settle();
    const waits: number[] = [];
    for (let round = 0; round < 6; round += 1) {
      cluster.end(cluster.running()[0]!.id, 'failed');
      cluster.settle();
      const next = live(cluster.tasks)[0]!;
      waits.push(Math.max(0, (next.notBefore ?? 0) - cluster.now));
      cluster.now = Math.max(cluster.now, next.notBefore ?? 0);
      cluster.settle();
    }
    expect(waits).toEqual([0, 1_000, 2_000, 5_000, 10_000, 30_000]);
    cluster.now += 60_000;
    cluster.end(cluster.running()[0]!.id, 'failed');
    cluster.settle();
    expect(cluster.running()).toHaveLength(1);
    expect(cluster.tasks.filter((task) => isTerminal(task.status.state))).toHaveLength(5);
  });

  test.each([
    ['none', 'failed', 0],
    ['on-failure', 'complete', 0],
    ['on-failure', 'failed', 1],
    ['any', 'complete', 1],
  ] as const)('restart condition %s after %s leaves %i tasks', (condition, state, expected) => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ replicas: 1, restart: { condition, maxAttempts: 0, window: 0 } }));
    cluster.settle();
    cluster.end(cluster.running()[0]!.id, state);
    cluster.settle();
    expect(cluster.running()).toHaveLength(expected);
  });

  test('max_attempts limits the replacements', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ replicas: 1, restart: { condition: 'any', delay: 0, maxAttempts: 2, window: 0 } }));
    cluster.settle();
    for (let round = 0; round < 2; round += 1) {
      cluster.end(cluster.running()[0]!.id, 'failed');
      cluster.settle();
      expect(cluster.running()).toHaveLength(1);
    }
    cluster.end(cluster.running()[0]!.id, 'failed');
    cluster.settle();
    expect(cluster.running()).toHaveLength(0);
  });

  test('a changed command replaces one task after the other, start-first', () => {
    const cluster = new Cluster([node(1), node(2)]);
    cluster.apply(service({ replicas: 3 }));
    cluster.settle();
    cluster.apply(service({ replicas: 3, command: ['new'] }), true);
    for (let step = 0; step < 60; step += 1) {
      cluster.step();
      expect(cluster.running().length).toBeGreaterThanOrEqual(3);
      expect(cluster.tasks.filter((task) => !isTerminal(task.status.state)).length).toBeLessThanOrEqual(5);
    }
    cluster.settle();
    expect(cluster.running().map((task) => cluster.commandOf(task))).toEqual([['new'], ['new'], ['new']]);
  });

  test('tasks of a node that is down are replaced elsewhere; when it returns its own are stopped', () => {
    const cluster = new Cluster([node(1), node(2)]);
    cluster.apply(service({ replicas: 2 }));
    cluster.settle();
    cluster.nodes = [node(1), node(2, { state: 'down' })];
    cluster.settle();
    expect(live(cluster.tasks).map((task) => task.nodeId)).toEqual(['n1', 'n1']);
    cluster.nodes = [node(1), node(2)];
    cluster.settle();
    expect(cluster.running().map((task) => task.nodeId)).toEqual(['n1', 'n1']);
  });

  test('a node that returns before its tasks were replaced keeps them; no task is stopped', () => {
    const cluster = new Cluster([node(1), node(2)]);
    cluster.apply(service({ replicas: 1, constraints: [{ key: 'node.id', operator: '==', value: 'n2' }] }));
    cluster.settle();
    const [own] = cluster.running();
    cluster.nodes = [node(1), node(2, { state: 'down' })];
    cluster.settle();
    expect(cluster.tasks.map(({ desired, status }) => [desired, status.state])).toEqual([
      ['missing', 'running'],
      ['running', 'pending'],
    ]);
    cluster.nodes = [node(1), node(2)];
    cluster.settle();
    expect(cluster.running().map((task) => task.id)).toEqual([own!.id]);
    expect(live(cluster.tasks).map((task) => task.id)).toEqual([own!.id]);
  });

  test('a missing task of a removed service is stopped when its node returns', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ replicas: 1 }));
    cluster.settle();
    cluster.nodes = [node(1, { state: 'down' })];
    cluster.settle();
    cluster.removeService();
    cluster.settle();
    cluster.nodes = [node(1)];
    cluster.settle();
    expect(cluster.tasks).toEqual([]);
  });

  test('a removed service drains and leaves nothing behind', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ replicas: 2 }));
    cluster.settle();
    cluster.removeService();
    cluster.settle();
    expect(cluster.tasks).toEqual([]);
  });
});

test('a global service has one task on every suitable node', () => {
  const cluster = new Cluster([node(1), node(2), node(3, { availability: 'drain' })]);
  cluster.apply(service({ mode: 'global' }));
  cluster.settle();
  expect(
    cluster
      .running()
      .map((task) => task.nodeId)
      .sort(),
  ).toEqual(['n1', 'n2']);
  cluster.nodes = [node(1), node(2), node(3), node(4)];
  cluster.settle();
  expect(cluster.running()).toHaveLength(4);
});

test('after any events it converges to the desired state, without duplicate addresses and host ports, and then is idle', () => {
  const PORTS: Record<string, PortSpec> = {
    ingress: { protocol: 'tcp', target: 80, published: 8080, mode: 'ingress' },
    retargeted: { protocol: 'tcp', target: 81, published: 8080, mode: 'ingress' },
    host: { protocol: 'tcp', target: 80, published: 9000, mode: 'host' },
    picked: { protocol: 'udp', target: 53, mode: 'host' },
  };
  const number = fc.integer({ min: 1, max: 3 });
  const event = fc.oneof(
    fc.record({ kind: fc.constant('scale' as const), replicas: fc.integer({ min: 0, max: 6 }) }),
    fc.record({ kind: fc.constant('fail' as const), which: fc.nat(9) }),
    fc.record({ kind: fc.constant('sick' as const), which: fc.nat(9) }),
    fc.record({ kind: fc.constant('talk' as const), which: fc.nat(9), connections: fc.nat(1) }),
    fc.record({ kind: fc.constant('node' as const), number, up: fc.boolean() }),
    fc.record({ kind: fc.constant('drain' as const), number, drained: fc.boolean() }),
    fc.record({ kind: fc.constant('command' as const), word: fc.constantFrom('a', 'b', 'c') }),
    fc.record({ kind: fc.constant('ports' as const), names: fc.subarray(Object.keys(PORTS)) }),
    fc.record({
      kind: fc.constant('update' as const),
      parallelism: fc.nat(2),
      delay: fc.constantFrom(0, 5_000),
      order: fc.constantFrom('start-first' as const, 'stop-first' as const),
    }),
    fc.record({ kind: fc.constant('steps' as const), count: fc.nat(5) }),
    fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(1_000, 10_000) }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 30 }), fc.boolean(), (events, checked) => {
      const cluster = new Cluster([node(1), node(2), node(3)]);
      const health = { interval: 1, timeout: 1, retries: 1, startPeriod: 0, startInterval: 1 };
      const want: Partial<ServiceSpec> & { replicas: number; command: string[]; ports: PortSpec[] } = {
        replicas: 2,
        command: ['a'],
        ports: [PORTS['ingress']!],
        ...(checked ? { health: { ...health, probe: { kind: 'tcp', port: 80 } } } : {}),
      };
      const change = (more: Partial<typeof want>, newGeneration = false) => {
        Object.assign(want, more);
        cluster.apply(service(want), newGeneration);
      };
      const changeNode = (which: number, more: Partial<Node>) => {
        cluster.nodes = cluster.nodes.map((each) => (each.number === which ? { ...each, ...more } : each));
      };
      change({});
      for (const what of events) {
        if (what.kind === 'scale') change({ replicas: what.replicas });
        else if (what.kind === 'command') change({ command: [what.word] }, want.command[0] !== what.word);
        else if (what.kind === 'ports') change({ ports: what.names.map((name) => PORTS[name]!) });
        else if (what.kind === 'update') {
          const { kind: _, ...update } = what;
          change({ update });
        } else if (what.kind === 'fail' || what.kind === 'sick' || what.kind === 'talk') {
          const victim = cluster.running()[what.which];
          if (victim === undefined) continue;
          if (what.kind === 'fail') cluster.end(victim.id, 'failed');
          else if (what.kind === 'talk') cluster.connections.set(victim.id, what.connections);
          else if (checked) cluster.report(victim.id, { health: 'unhealthy' });
        } else if (what.kind === 'node') changeNode(what.number, { state: what.up ? 'ready' : 'down' });
        else if (what.kind === 'drain') changeNode(what.number, { availability: what.drained ? 'drain' : 'active' });
        else if (what.kind === 'wait') cluster.now += what.ms;
        else for (let step = 0; step < what.count; step += 1) cluster.step();
        const addresses = cluster.tasks
          .filter((task) => !isTerminal(task.status.state))
          .flatMap((task) => task.addresses.map((own) => own.address));
        expect(new Set(addresses).size).toBe(addresses.length);
        expectNoSharedHostPorts(cluster.tasks);
      }
      cluster.nodes = cluster.nodes.map((each) => ({ ...each, state: 'ready', availability: 'active' }));
      cluster.connections.clear();
      for (let round = 0; round < 20; round += 1) {
        cluster.now += 3_600_000;
        cluster.settle();
      }
      const running = cluster.running();
      // With a host port a node can run one task.
      const room = want.ports.includes(PORTS['host']!) ? 3 : 6;
      expect(running).toHaveLength(Math.min(want.replicas, room));
      if (want.replicas <= room) {
        const slots = Array.from({ length: want.replicas }, (_, index) => index + 1);
        expect(running.map((task) => task.slot).sort()).toEqual(slots);
      }
      for (const task of running) expect(cluster.commandOf(task)).toEqual(want.command);
      expect(cluster.service).not.toHaveProperty('leaving');
      expect(cluster.decide()).toEqual({ put: [], remove: [] });
      cluster.removeService();
      cluster.settle();
      expect(cluster.tasks).toEqual([]);
      expect(cluster.service).toBeUndefined();
    }),
    { numRuns: 300 },
  );
});

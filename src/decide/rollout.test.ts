import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Task } from '../model/cluster.ts';
import type { ServiceSpec, UpdateConfig } from '../model/spec.ts';
import { isTerminal } from '../model/task-state.ts';
import { Cluster, expectNoSharedHostPorts, node, service } from './cluster.test-data.ts';

const HEALTH: NonNullable<ServiceSpec['health']> = {
  probe: { kind: 'tcp', port: 80 },
  interval: 1_000,
  timeout: 1_000,
  retries: 1,
  startPeriod: 0,
  startInterval: 1_000,
};
const HOST_PORT = [{ protocol: 'tcp' as const, target: 80, published: 9000, mode: 'host' as const }];

/** Commands of the generations that these tests apply. */
const commandOf = ({ generation }: Task) => ['old', 'new', 'third'][generation - 1];
const commands = (tasks: readonly Task[]) => tasks.map(commandOf).sort();

/** A settled service of the old command, then the new one applied. */
function updating(spec: Partial<ServiceSpec>, nodes = [node(1), node(2)]): Cluster {
  const cluster = new Cluster(nodes);
  cluster.apply(service({ ...spec, command: ['old'] }));
  cluster.settle();
  cluster.apply(service({ ...spec, command: ['new'] }), true);
  return cluster;
}

/** Steps until nothing changes, and calls back after each. */
function checkEachStep(cluster: Cluster, check: () => void): void {
  for (let step = 0; cluster.step(); step += 1) {
    check();
    if (step > 500) throw new Error('does not settle');
  }
}

describe('an update', () => {
  test.each([1, 2, 3, 0])('replaces %i at a time (0: all), start-first', (parallelism) => {
    const cluster = updating({ replicas: 5, update: { parallelism, delay: 0, order: 'start-first' } });
    let most = 0;
    checkEachStep(cluster, () => {
      expect(cluster.serving().length).toBeGreaterThanOrEqual(5);
      const live = cluster.tasks.filter(({ status, desired }) => !isTerminal(status.state) && desired === 'running');
      most = Math.max(most, live.length - 5);
    });
    expect(most).toBe(parallelism === 0 ? 5 : parallelism);
    expect(commands(cluster.running())).toEqual(Array(5).fill('new'));
  });

  test('stop-first: the old task has stopped before the new one is placed, one slot after the other', () => {
    const cluster = updating({ replicas: 3, update: { parallelism: 1, delay: 0, order: 'stop-first' } });
    cluster.step();
    const victim = cluster.tasks.find(({ desired }) => desired === 'drain')!;
    cluster.connections.set(victim.id, 1);
    cluster.settle();
    // It keeps its connections; its successor is pending with the reason.
    expect(cluster.tasks.find((task) => commandOf(task) === 'new')).toMatchObject({
      slot: victim.slot,
      status: { state: 'new', message: 'waiting for 1 old task to stop' },
    });
    expect(cluster.serving()).toHaveLength(2);
    cluster.connections.clear();
    checkEachStep(cluster, () => {
      expect(cluster.serving().length).toBeGreaterThanOrEqual(2);
      for (const { slot, nodeId, generation } of cluster.tasks) {
        if (generation !== 2 || nodeId === undefined) continue;
        const old = cluster.tasks.filter((task) => task.slot === slot && commandOf(task) === 'old');
        expect(old.every(({ status }) => isTerminal(status.state))).toBe(true);
      }
    });
    expect(commands(cluster.running())).toEqual(['new', 'new', 'new']);
  });

  test('delay: the next slot begins that long after the last task is up, also after a restart of the manager', () => {
    const cluster = updating({ replicas: 3, update: { parallelism: 1, delay: 60_000, order: 'start-first' } });
    for (const done of [1, 2]) {
      cluster.settle();
      expect(commands(cluster.serving())).toEqual([...Array(done).fill('new'), ...Array(3 - done).fill('old')]);
      expect(cluster.wakeAt).toBe(cluster.now + 60_000);
      cluster.now += 59_999;
      expect(cluster.decide().put).toEqual([]);
      cluster.now += 1;
    }
    cluster.settle();
    expect(commands(cluster.serving())).toEqual(['new', 'new', 'new']);
    expect(cluster.wakeAt).toBeUndefined();
  });

  test('with a health check the new task is up when it is healthy', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ health: HEALTH }));
    cluster.settle();
    const [old] = cluster.serving();
    cluster.health = 'starting';
    cluster.apply(service({ health: HEALTH, forced: 1 }), true);
    cluster.settle();
    expect(cluster.running()).toHaveLength(2);
    expect(cluster.serving().map(({ id }) => id)).toEqual([old!.id]);
    cluster.report(cluster.running().find(({ id }) => id !== old!.id)!.id, { health: 'healthy' });
    cluster.settle();
    expect(cluster.serving().map(({ generation }) => generation)).toEqual([2]);
    expect(cluster.running()).toHaveLength(1);
  });

  test('tasks that are not up are replaced at once, regardless of the update options', () => {
    const cluster = new Cluster([node(1)]);
    cluster.tasksStart = false;
    const update: UpdateConfig = { parallelism: 1, delay: 3_600_000, order: 'stop-first' };
    cluster.apply(service({ replicas: 4, command: ['old'], update }));
    cluster.settle();
    cluster.tasksStart = true;
    cluster.apply(service({ replicas: 4, command: ['new'], update }), true);
    cluster.settle();
    expect(commands(cluster.running())).toEqual(['new', 'new', 'new', 'new']);
  });

  test('a fixed host port forces stop-first', () => {
    const cluster = updating({
      ports: HOST_PORT,
      replicas: 2,
      update: { parallelism: 1, delay: 0, order: 'start-first' },
    });
    checkEachStep(cluster, () => expectNoSharedHostPorts(cluster.tasks));
    expect(commands(cluster.running())).toEqual(['new', 'new']);
  });

  test('of a global service replaces node by node', () => {
    const cluster = updating({ mode: 'global' }, [node(1), node(2), node(3)]);
    checkEachStep(cluster, () => expect(cluster.serving().length).toBeGreaterThanOrEqual(3));
    expect(cluster.running().map((task) => [task.nodeId, commandOf(task)])).toEqual([
      ['n1', 'new'],
      ['n2', 'new'],
      ['n3', 'new'],
    ]);
  });

  test('a third version first replaces the slot where the second is not ready, then the others', () => {
    const cluster = updating({ replicas: 3, update: { parallelism: 1, delay: 0, order: 'stop-first' } });
    cluster.tasksStart = false;
    cluster.settle();
    expect(commands(cluster.serving())).toEqual(['old', 'old']);
    cluster.apply(
      service({ replicas: 3, command: ['third'], update: { parallelism: 1, delay: 0, order: 'stop-first' } }),
      true,
    );
    cluster.settle();
    expect(commands(cluster.serving())).toEqual(['old', 'old']);
    cluster.tasksStart = true;
    checkEachStep(cluster, () => expect(cluster.serving().length).toBeGreaterThanOrEqual(2));
    expect(commands(cluster.running())).toEqual(['third', 'third', 'third']);
  });

  test('a slot whose node is down does not block a later update', () => {
    const cluster = updating({ replicas: 3, ports: HOST_PORT }, [node(1), node(2), node(3)]);
    cluster.settle();
    expect(commands(cluster.serving())).toEqual(['new', 'new', 'new']);
    cluster.now += 1_000;
    cluster.nodes = [node(1, { state: 'down' }), node(2), node(3)];
    cluster.settle();
    cluster.now += 1_000;
    cluster.apply(service({ replicas: 3, ports: HOST_PORT, command: ['third'] }), true);
    cluster.settle();
    expect(commands(cluster.serving())).toEqual(['third', 'third']);
  });

  test('a version that fails soon after it came up pauses the update until it is up again', () => {
    const cluster = updating({ replicas: 3, restart: { condition: 'any', delay: 60_000, maxAttempts: 0, window: 0 } });
    while (commands(cluster.serving()).filter((word) => word === 'new').length === 0) cluster.step();
    cluster.end(cluster.serving().find((task) => commandOf(task) === 'new')!.id, 'failed');
    cluster.settle();
    expect(commands(cluster.serving()).filter((word) => word === 'old').length).toBeGreaterThanOrEqual(2);
    cluster.now += 60_000;
    cluster.settle();
    expect(commands(cluster.serving())).toEqual(['new', 'new', 'new']);
  });

  test('a version that completed replaces one that still runs', () => {
    const restart = { condition: 'on-failure' as const, maxAttempts: 0, window: 0 };
    const cluster = updating({ replicas: 2, restart });
    checkEachStep(cluster, () => {
      for (const task of cluster.running()) if (commandOf(task) === 'new') cluster.end(task.id, 'complete');
    });
    expect(cluster.running()).toEqual([]);
    expect(cluster.tasks.filter(({ status }) => status.state === 'complete').map(({ slot }) => slot)).toEqual([1, 2]);
  });

  test('a version that never comes up replaces at most one batch, and no running task with start-first', () => {
    const events = fc.array(
      fc.record({ kind: fc.constantFrom('steps' as const, 'fail' as const, 'wait' as const), n: fc.nat(20) }),
      { maxLength: 30 },
    );
    const config = fc.record({
      parallelism: fc.integer({ min: 1, max: 3 }),
      delay: fc.constantFrom(0, 5_000),
      order: fc.constantFrom('start-first' as const, 'stop-first' as const),
    });
    const condition = fc.constantFrom('any' as const, 'none' as const);
    fc.assert(
      fc.property(config, condition, events, (update, condition, history) => {
        const restart = { condition, maxAttempts: 0, window: 0 };
        const cluster = new Cluster([node(1), node(2)]);
        cluster.apply(service({ replicas: 5, command: ['old'], update, restart }));
        cluster.settle();
        cluster.tasksStart = false;
        cluster.apply(service({ replicas: 5, command: ['new'], update, restart }), true);
        for (const { kind, n } of history) {
          if (kind === 'steps') for (let step = 0; step < n; step += 1) cluster.step();
          else if (kind === 'wait') cluster.now += n * 1_000;
          else {
            const starting = cluster.tasks.filter(({ status }) => status.state === 'starting');
            if (starting.length > 0) cluster.end(starting[n % starting.length]!.id, 'failed');
          }
          const lost = update.order === 'start-first' ? 0 : update.parallelism;
          expect(cluster.serving().length).toBeGreaterThanOrEqual(5 - lost);
        }
      }),
      { numRuns: 150 },
    );
  });
});

describe('a task that has to leave its node', () => {
  test('node drain: its successor is up elsewhere before it is stopped', () => {
    const cluster = new Cluster([node(1), node(2)]);
    cluster.apply(service({ replicas: 4 }));
    cluster.settle();
    cluster.nodes = [node(1, { availability: 'drain' }), node(2)];
    checkEachStep(cluster, () => expect(cluster.serving().length).toBeGreaterThanOrEqual(4));
    expect(cluster.running().map(({ nodeId }) => nodeId)).toEqual(['n2', 'n2', 'n2', 'n2']);
  });

  test('it stays as long as its successor does not come up', () => {
    const cluster = new Cluster([node(1), node(2)]);
    cluster.apply(service({ replicas: 2 }));
    cluster.settle();
    cluster.tasksStart = false;
    cluster.nodes = [node(1, { availability: 'drain' }), node(2)];
    cluster.settle();
    expect(
      cluster
        .serving()
        .map(({ nodeId }) => nodeId)
        .sort(),
    ).toEqual(['n1', 'n2']);
  });

  test('it is stopped even if no other node is suitable, and its successor is pending', () => {
    const cluster = new Cluster([node(1), node(2, { state: 'down' })]);
    cluster.apply(service({ replicas: 1 }));
    cluster.settle();
    cluster.nodes = [node(1, { availability: 'drain' }), node(2, { state: 'down' })];
    cluster.settle();
    expect(cluster.running()).toEqual([]);
    expect(cluster.tasks.find(({ desired }) => desired === 'running')?.status).toMatchObject({
      state: 'pending',
      message: 'no suitable node: of 2, 1 down, 1 paused or drained',
    });
    cluster.nodes = [node(1), node(2)];
    cluster.settle();
    expect(cluster.serving()).toHaveLength(1);
  });

  test('a changed constraint moves it, new before old', () => {
    const cluster = new Cluster([node(1), node(2, { labels: { disk: 'ssd' } })]);
    cluster.apply(service({ replicas: 2 }));
    cluster.settle();
    cluster.apply(service({ replicas: 2, constraints: [{ key: 'node.labels.disk', operator: '==', value: 'ssd' }] }));
    checkEachStep(cluster, () => expect(cluster.serving().length).toBeGreaterThanOrEqual(2));
    expect(cluster.running().map(({ nodeId }) => nodeId)).toEqual(['n2', 'n2']);
  });

  test('drained during an update it is replaced by the new version at once', () => {
    const cluster = updating({ replicas: 4, update: { parallelism: 1, delay: 3_600_000, order: 'start-first' } });
    cluster.settle();
    cluster.nodes = [node(1, { availability: 'drain' }), node(2)];
    checkEachStep(cluster, () => expect(cluster.serving().length).toBeGreaterThanOrEqual(4));
    expect(new Set(cluster.running().map(({ nodeId }) => nodeId))).toEqual(new Set(['n2']));
    expect(commands(cluster.running())).toContain('old');
  });
});

describe('an unhealthy task', () => {
  test('drains its connections, is replaced at once, and ends as failed', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ health: HEALTH }));
    cluster.settle();
    const [sick] = cluster.serving();
    cluster.connections.set(sick!.id, 1);
    cluster.report(sick!.id, { health: 'unhealthy', message: 'connection refused' });
    expect(cluster.serving()).toEqual([]);
    cluster.settle();
    expect(cluster.tasks.find(({ id }) => id === sick!.id)).toMatchObject({
      desired: 'drain',
      failure: { error: 'unhealthy: connection refused', since: cluster.now },
    });
    expect(cluster.serving()).toHaveLength(1);
    cluster.connections.clear();
    cluster.settle();
    expect(cluster.running()).toHaveLength(1);
  });

  test('is subject to the restart policy', () => {
    const cluster = new Cluster([node(1)]);
    cluster.health = 'unhealthy';
    cluster.apply(service({ health: HEALTH, restart: { condition: 'any', maxAttempts: 2, window: 0 } }));
    for (let round = 0; round < 10; round += 1) {
      cluster.settle();
      cluster.now += 10_000;
    }
    expect(cluster.tasks.filter(({ failure }) => failure !== undefined)).toHaveLength(3);
    expect(cluster.running()).toEqual([]);
    const once = new Cluster([node(1)]);
    once.health = 'unhealthy';
    once.apply(service({ health: HEALTH, restart: { condition: 'none', maxAttempts: 0, window: 0 } }));
    once.settle();
    expect(once.tasks).toHaveLength(1);
  });
});

import { describe, expect, test } from 'vitest';
import type { Task } from '../model/cluster.ts';
import type { PortSpec } from '../model/spec.ts';
import { Cluster, node, service } from './cluster.test-data.ts';

describe('host ports', () => {
  const port: PortSpec = { protocol: 'tcp', target: 80, published: 9000, mode: 'host' };

  test('one task per node, across services; tasks that are being stopped still hold it, and `ps` shows that', () => {
    const cluster = new Cluster([node(1), node(2), node(3, { labels: { zone: 'b' } })]);
    const theirs = { ...cluster.tasks[0], id: 'x', nodeId: 'n1', desired: 'drain', hostPorts: ['9000/tcp'] } as Task;
    cluster.others.push({ ...theirs, addresses: [], status: { state: 'running', message: '', error: '', since: 0 } });
    const constraints = [{ key: 'node.labels.zone', operator: '!=' as const, value: 'b' }];
    cluster.apply(service({ replicas: 2, ports: [port], constraints }));
    cluster.settle();
    expect(cluster.running().map(({ nodeId }) => nodeId)).toEqual(['n2']);
    expect(cluster.tasks.find(({ nodeId }) => nodeId === undefined)?.status).toMatchObject({
      state: 'pending',
      message: 'no suitable node: of 3, 1 not node.labels.zone != b, 2 with host port 9000/tcp in use',
    });
    cluster.others.length = 0;
    cluster.settle();
    expect(
      cluster
        .running()
        .map(({ nodeId }) => nodeId)
        .sort(),
    ).toEqual(['n1', 'n2']);
  });

  test('a global service reports on which node its port is in use', () => {
    const cluster = new Cluster([node(1)]);
    const theirs = { id: 'x', nodeId: 'n1', hostPorts: ['9000/tcp'], addresses: [] } as unknown as Task;
    cluster.others.push({ ...theirs, status: { state: 'running', message: '', error: '', since: 0 } });
    cluster.apply(service({ mode: 'global', ports: [port] }));
    cluster.settle();
    expect(cluster.tasks[0]?.status.message).toBe('host port 9000/tcp of node1 is in use by another task');
  });

  test('adding one restarts only tasks on nodes where it is in use', () => {
    const cluster = new Cluster([node(1), node(2)]);
    cluster.apply(service({ replicas: 2, ports: [] }));
    cluster.settle();
    const before = cluster.running().map(({ id }) => id);
    cluster.apply(service({ replicas: 2, ports: [port] }));
    cluster.settle();
    expect(cluster.running().map(({ id }) => id)).toEqual(before);
    expect(cluster.running().map(({ hostPorts }) => hostPorts)).toEqual([['9000/tcp'], ['9000/tcp']]);
    const crowded = new Cluster([node(1), node(2)]);
    crowded.apply(service({ replicas: 2, ports: [], constraints: [{ key: 'node.id', operator: '==', value: 'n1' }] }));
    crowded.settle();
    crowded.apply(service({ replicas: 2, ports: [port] }));
    crowded.settle();
    expect(
      crowded
        .running()
        .map(({ nodeId }) => nodeId)
        .sort(),
    ).toEqual(['n1', 'n2']);
  });

  test('is free for other services only after its last connection has ended', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ ports: [port] }));
    cluster.settle();
    const [task] = cluster.running();
    cluster.connections.set(task!.id, 1);
    cluster.apply(service({ ports: [] }));
    cluster.settle();
    expect(cluster.running()[0]?.hostPorts).toEqual(['9000/tcp']);
    cluster.connections.clear();
    cluster.settle();
    expect(cluster.running()).toMatchObject([{ id: task!.id }]);
    expect(cluster.running()[0]).not.toHaveProperty('hostPorts');
  });
});

describe('a port that is removed from a running service', () => {
  const one: PortSpec = { protocol: 'tcp', target: 80, published: 8080, mode: 'ingress' };

  test.each([
    ['with its last connection', (cluster: Cluster) => cluster.connections.clear()],
    [
      'with the grace period',
      (cluster: Cluster) => {
        cluster.now += 10_000;
      },
    ],
  ])('is removed %s', (_, end) => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({}));
    cluster.settle();
    cluster.connections.set(cluster.running()[0]!.id, 1);
    cluster.apply(service({ ports: [] }));
    cluster.settle();
    expect(cluster.service?.leaving).toMatchObject([{ port: one, deadline: cluster.now + 10_000 }]);
    expect(cluster.wakeAt).toBe(cluster.now + 10_000);
    end(cluster);
    cluster.settle();
    expect(cluster.service).not.toHaveProperty('leaving');
    expect(cluster.running()).toHaveLength(1);
  });

  test('waits for the acknowledgement of every node, and is published again when it is declared again', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({}));
    cluster.settle();
    cluster.acknowledgements = false;
    cluster.apply(service({ ports: [] }));
    cluster.settle();
    expect(cluster.service?.leaving).toHaveLength(1);
    cluster.apply(service({}));
    expect(cluster.service).not.toHaveProperty('leaving');
  });

  test('UDP does not drain', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ ports: [{ ...one, protocol: 'udp' }] }));
    cluster.settle();
    cluster.apply(service({ ports: [] }));
    expect(cluster.service).not.toHaveProperty('leaving');
  });

  test('a task created before the port was added drains for it too', () => {
    const cluster = new Cluster([node(1)]);
    cluster.apply(service({ ports: [] }));
    cluster.settle();
    cluster.apply(service({}));
    cluster.connections.set(cluster.running()[0]!.id, 1);
    cluster.apply(service({ replicas: 0 }));
    cluster.settle();
    expect(cluster.running()).toMatchObject([{ desired: 'drain' }]);
  });
});

import { describe, expect, test } from 'vitest';
import type { Node, Service, Task } from '../model/cluster.ts';
import type { PortSpec } from '../model/spec.ts';
import { ingress, node, service } from './cluster.test-data.ts';
import { groupByPort, portForNode, portOffers } from './offers.ts';

const PORT: PortSpec = { protocol: 'tcp', target: 80, published: 8080, mode: 'ingress' };

function task(number: number, nodeId: string, more: Partial<Task> = {}): Task {
  return {
    id: `t${number}`,
    version: 1,
    createdAt: number,
    updatedAt: number,
    serviceId: 's1',
    serviceName: 'web',
    slot: number,
    nodeId,
    generation: 1,
    stopGracePeriod: 10_000,
    addresses: [{ networkId: 'ingress', address: `10.252.1.${number}` }],
    desired: 'running',
    status: { state: 'running', message: '', error: '', since: 0 },
    joinedRevision: number,
    restarts: 0,
    ...more,
  };
}

/** The endpoints that one node gets for 8080/tcp, as `task:weight`. */
function portsSeenBy(at: Node, nodes: Node[], tasks: Task[], ...services: Service[]) {
  const view = {
    networks: [ingress],
    node: (id: string) => nodes.find((each) => each.id === id),
    tasksOfService: (id: string) => tasks.filter(({ serviceId }) => serviceId === id),
  };
  const offers = groupByPort(services.flatMap((each) => portOffers(each, view))).get('8080/tcp') ?? [];
  const port = portForNode(at, offers);
  return port && { by: port.serviceId, behind: port.endpoints.map(({ taskId, weight }) => `${taskId}:${weight}`) };
}

const [one, two] = [node(1, { labels: { zone: 'a', cores: '8' } }), node(2, { labels: { cores: 'many' } })];
const nodes = [one, two];

describe('endpoints', () => {
  test('are in the order in which they joined, on every node', () => {
    const tasks = [task(1, 'n1', { joinedRevision: 9 }), task(2, 'n2'), task(3, 'n1')];
    for (const at of nodes)
      expect(portsSeenBy(at, nodes, tasks, service({}))?.behind).toEqual(['t2:1', 't3:1', 't1:1']);
  });

  test('have the weight of their node, within bounds', () => {
    const weight = { label: 'cores', default: 3 };
    expect(portsSeenBy(one, nodes, [task(1, 'n1'), task(2, 'n2')], service({ weight }))?.behind).toEqual([
      't1:8',
      't2:3',
    ]);
    expect(portsSeenBy(one, nodes, [task(2, 'n2')], service({ weight: { default: 70_000 } }))?.behind).toEqual([
      't2:65535',
    ]);
    expect(
      portsSeenBy(one, [node(1, { labels: { cores: '0' } })], [task(1, 'n1')], service({ weight }))?.behind,
    ).toEqual(['t1:1']);
  });

  test('are added when healthy, and keep only open connections when unhealthy', () => {
    const of = (state: 'starting' | 'healthy' | 'unhealthy') =>
      task(1, 'n1', {
        hasHealthCheck: true,
        status: { state: 'running', message: '', error: '', since: 0, health: state },
      });
    const behind = (state: 'starting' | 'healthy' | 'unhealthy') =>
      portsSeenBy(one, nodes, [of(state)], service({}))?.behind;
    expect([behind('starting'), behind('healthy'), behind('unhealthy')]).toEqual([[], ['t1:1'], ['t1:0']]);
  });
});

describe('the nodes of a port', () => {
  test('ingress.nodes: those that match all constraints, with or without tasks', () => {
    const nodesOnly = [{ key: 'node.labels.zone', operator: '==' as const, value: 'A' }];
    const some = service({ ports: [{ ...PORT, nodes: nodesOnly }] });
    expect(portsSeenBy(one, nodes, [task(1, 'n2')], some)?.behind).toEqual(['t1:1']);
    expect(portsSeenBy(two, nodes, [task(1, 'n2')], some)).toBeUndefined();
  });

  test('host mode: the node of the task that publishes it, with that task only', () => {
    const host = service({ ports: [{ ...PORT, mode: 'host' }] });
    const tasks = [
      task(1, 'n1', { hostPorts: ['8080/tcp'] }),
      task(2, 'n1'),
      task(3, 'n2', { hostPorts: ['8080/tcp'] }),
    ];
    expect(portsSeenBy(one, nodes, tasks, host)?.behind).toEqual(['t1:1']);
    expect(portsSeenBy(two, nodes, tasks, host)?.behind).toEqual(['t3:1']);
    const other: Service = { ...host, id: 's2' };
    const shared = [
      task(1, 'n1', { hostPorts: ['8080/tcp'] }),
      task(2, 'n2', { serviceId: 's2', hostPorts: ['8080/tcp'] }),
    ];
    expect([
      portsSeenBy(one, nodes, shared, host, other)?.by,
      portsSeenBy(two, nodes, shared, host, other)?.by,
    ]).toEqual(['s1', 's2']);
  });

  test('a number that the node picked is read from the task', () => {
    const { published: _, ...open } = PORT;
    const host = service({ ports: [{ ...open, mode: 'host' }] });
    const ports = [{ protocol: 'tcp' as const, target: 80, published: 8080 }];
    const status = { state: 'running' as const, message: '', error: '', since: 0, ports };
    expect(portsSeenBy(one, nodes, [task(1, 'n1', { status })], host)?.behind).toEqual(['t1:1']);
    expect(portsSeenBy(two, nodes, [task(1, 'n1', { status })], host)).toBeUndefined();
  });
});

describe('a node that others do not reach', () => {
  const cutOff = node(2, { impairments: ['UnderlayAddressMissing'] });
  const tasks = [task(1, 'n1'), task(2, 'n2'), task(3, 'n3')];
  const all = [one, cutOff, node(3)];

  test('has its own tasks as endpoints only, and is not an endpoint of the others', () => {
    expect(portsSeenBy(one, all, tasks, service({}))?.behind).toEqual(['t1:1', 't3:1']);
    expect(portsSeenBy(cutOff, all, tasks, service({}))?.behind).toEqual(['t2:1']);
  });

  test('the same for connections that drain', () => {
    const removed = { ...service({}), removed: true as const };
    expect(portsSeenBy(one, all, [task(2, 'n2')], removed)).toBeUndefined();
    expect(portsSeenBy(cutOff, all, [task(2, 'n2')], removed)?.behind).toEqual(['t2:0']);
  });

  test('other impairments do not change endpoints', () => {
    const full = node(2, { impairments: ['DiskNearlyFull', 'SomethingNewer'] });
    expect(portsSeenBy(one, [one, full], tasks.slice(0, 2), service({}))?.behind).toEqual(['t1:1', 't2:1']);
  });
});

describe('a port that is no longer declared', () => {
  const leaving = [{ port: PORT, revision: 5, deadline: 9 }];

  test('keeps open connections while it drains, and is not published without a task', () => {
    const left = { ...service({ ports: [] }), leaving };
    expect(portsSeenBy(one, nodes, [task(1, 'n1')], left)?.behind).toEqual(['t1:0']);
    expect(portsSeenBy(one, nodes, [], left)).toBeUndefined();
    expect(portsSeenBy(one, nodes, [task(1, 'n1')], { ...service({}), removed: true })?.behind).toEqual(['t1:0']);
  });

  test('belongs to the new service at once; open connections to the old one continue', () => {
    const left = { ...service({ ports: [] }), leaving };
    const newcomer: Service = { ...service({}), id: 's9', name: 'new' };
    const tasks = [task(1, 'n1'), task(2, 'n2', { serviceId: 's9' })];
    expect(portsSeenBy(one, nodes, tasks, left, newcomer)).toEqual({ by: 's9', behind: ['t1:0', 't2:1'] });
    const removed: Service = { ...service({}), removed: true };
    expect(portsSeenBy(one, nodes, tasks, removed, newcomer)).toEqual({ by: 's9', behind: ['t1:0', 't2:1'] });
  });

  test('with another target and the same number, a task is an endpoint with both', () => {
    const moved = { ...service({ ports: [{ ...PORT, target: 81 }] }), leaving };
    expect(portsSeenBy(one, nodes, [task(1, 'n1')], moved)?.behind).toEqual(['t1:0', 't1:1']);
    // Two offers with the same target are one real server; the declared one applies.
    expect(portsSeenBy(one, nodes, [task(1, 'n1')], { ...service({}), leaving })?.behind).toEqual(['t1:1']);
  });
});

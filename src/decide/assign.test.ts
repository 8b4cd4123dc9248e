import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { addressAt, blockOf, blockSize, slotOf } from '../model/block.ts';
import type { Service, Task } from '../model/cluster.ts';
import { taskTemplate } from '../model/generation.ts';
import { allocateAddresses, allocateNodeNumber, nodeBlock } from './allocate.ts';
import { type AssignmentView, assignment } from './assign.ts';
import { ingress, node, service } from './cluster.test-data.ts';

function task(slot: number, nodeId: string, more: Partial<Task> = {}): Task {
  return {
    id: `t${slot}`,
    version: 1,
    createdAt: slot,
    updatedAt: slot,
    serviceId: 's1',
    serviceName: 'web',
    slot,
    nodeId,
    generation: 1,
    stopGracePeriod: 10_000,
    addresses: [{ networkId: 'ingress', address: `10.252.${nodeId.slice(1)}.${4 + slot}` }],
    desired: 'running',
    status: { state: 'running', message: '', error: '', since: 0 },
    restarts: 0,
    ...more,
  };
}

function view(nodes = [node(1), node(2)], tasks: Task[] = [], services: Service[] = [service({})]): AssignmentView {
  return {
    revision: 7,
    networks: [ingress],
    nodes: () => nodes,
    node: (id) => nodes.find((each) => each.id === id),
    services: () => services,
    service: (id) => services.find((each) => each.id === id),
    template: () => taskTemplate(service({}).spec),
    tasksOfService: (id) => tasks.filter((each) => each.serviceId === id),
    tasksOnNode: (id) => tasks.filter((each) => each.nodeId === id),
  };
}

const endpointsOf = (tasks: Task[], spec = service({}), nodes = [node(1), node(2)]) =>
  assignment(nodes[0]!, view(nodes, tasks, [spec])).ports.map((port) => port.endpoints);

describe('assignment', () => {
  test('contains the node itself, its peers and its tasks', () => {
    const own = assignment(node(1), view(undefined, [task(1, 'n1'), task(2, 'n2')]));
    expect(own.self).toEqual({ nodeId: 'n1', name: 'node1', number: 1, underlay: '192.0.2.1' });
    expect(own.networks[0]?.subnets).toEqual([{ family: 'inet', cidr: '10.252.0.0/14', block: '10.252.1.0/24' }]);
    expect(own.peers).toEqual([
      {
        nodeId: 'n2',
        number: 2,
        underlay: '192.0.2.2',
        mac: '02:6d:65:73:00:02',
        blocks: [{ networkId: 'ingress', family: 'inet', block: '10.252.2.0/24' }],
      },
    ]);
    expect(own.tasks.map((each) => each.id)).toEqual(['t1']);
    expect(own.ports[0]).toMatchObject({ published: 8080, protocol: 'tcp', serviceName: 'web' });
    expect(own.ports[0]?.endpoints.map((each) => each.address)).toEqual(['10.252.1.5', '10.252.2.6']);
  });

  test('only running tasks on ready nodes are endpoints', () => {
    const starting = task(1, 'n1', { status: { state: 'starting', message: '', error: '', since: 0 } });
    const ended = task(2, 'n1', { status: { state: 'shutdown', message: '', error: '', since: 0 } });
    expect(endpointsOf([starting, ended])).toEqual([[]]);
    expect(endpointsOf([task(1, 'n2')], undefined, [node(1), node(2, { state: 'down' })])).toEqual([[]]);
  });

  test('a task is an endpoint only in the families that it accepts on the target', () => {
    const both = [
      { networkId: 'ingress', address: '10.252.1.5' },
      { networkId: 'ingress', address: 'fd6d::5' },
    ];
    const missing = [{ protocol: 'tcp' as const, target: 80, family: 'inet6' as const }];
    const status = { state: 'running' as const, message: '', error: '', since: 0, missing };
    const ports = [80, 81].map((target) => ({
      protocol: 'tcp' as const,
      target,
      published: target,
      mode: 'ingress' as const,
    }));
    const addresses = endpointsOf([task(1, 'n1', { addresses: both, status })], service({ ports })).map((endpoints) =>
      endpoints.map(({ address }) => address),
    );
    expect(addresses).toEqual([['10.252.1.5'], ['10.252.1.5', 'fd6d::5']]);
  });

  test('a target is bound on demand if every port that leads to it says so', () => {
    const port = (published: number, target: number, ready?: false) => ({
      ...{ protocol: 'tcp' as const, target, published, mode: 'ingress' as const },
      ...(ready === undefined ? {} : { ready }),
    });
    const ports = [
      port(1, 80, false),
      port(2, 80, false),
      port(3, 81, false),
      port(4, 81),
      port(5, 82),
      port(6, 82, false),
    ];
    const [own] = assignment(node(1), view(undefined, [task(1, 'n1')], [service({ ports })])).tasks;
    expect(own?.targets).toEqual([
      { protocol: 'tcp', port: 80, ready: false },
      { protocol: 'tcp', port: 81 },
      { protocol: 'tcp', port: 82 },
    ]);
  });

  test('a draining task keeps its TCP connections and is no endpoint for UDP', () => {
    const both = service({
      ports: [
        { protocol: 'tcp', target: 80, published: 80, mode: 'ingress' },
        { protocol: 'udp', target: 53, published: 53, mode: 'ingress' },
      ],
    });
    const [tcp, udp] = endpointsOf([task(1, 'n1', { desired: 'drain' })], both);
    expect(tcp).toMatchObject([{ weight: 0, port: 80 }]);
    expect(udp).toEqual([]);
    // What it sends while it is being stopped is routed too.
    expect(endpointsOf([task(1, 'n1', { desired: 'shutdown' })], both)).toMatchObject([[{ weight: 0 }], []]);
  });

  test('a draining task is still assigned to its agent, one that ended is not', () => {
    const draining = task(1, 'n1', { desired: 'drain' });
    const ended = task(2, 'n1', { status: { state: 'failed', message: '', error: '', since: 0 } });
    const stopping = task(3, 'n1', { desired: 'shutdown' });
    const { tasks } = assignment(node(1), view(undefined, [draining, ended, stopping]));
    expect(tasks.map((each) => [each.id, each.desired])).toEqual([
      ['t1', 'running'],
      ['t3', 'shutdown'],
    ]);
  });
});

describe('allocation', () => {
  test('addresses continue after the newest and wrap around, never one in use', () => {
    const there: Task[] = [];
    const given: string[] = [];
    for (let round = 0; round < 400; round += 1) {
      const [own] = allocateAddresses(node(3), [ingress], there)!;
      given.push(own!.address);
      there.push(task(round, 'n3', { addresses: [own!] }));
      if (there.length > 3) there.shift();
    }
    expect(given.slice(0, 3)).toEqual(['10.252.3.5', '10.252.3.6', '10.252.3.7']);
    expect(given[250]).toBe('10.252.3.5');
    expect(given).not.toContain('10.252.3.255');
  });

  test('a full block has no free address', () => {
    const there: Task[] = [];
    for (let round = 0; round < 250; round += 1) {
      there.push(task(round, 'n3', { addresses: allocateAddresses(node(3), [ingress], there)! }));
    }
    expect(new Set(there.map((each) => each.addresses[0]!.address)).size).toBe(250);
    expect(allocateAddresses(node(3), [ingress], there)).toBeUndefined();
  });

  test('addresses of ended tasks are reused last', () => {
    const there: Task[] = [];
    for (let round = 0; round < 250; round += 1) {
      const state = round < 249 ? ('failed' as const) : ('running' as const);
      const status = { state, message: '', error: '', since: 0 };
      there.push(task(round, 'n3', { status, addresses: allocateAddresses(node(3), [ingress], there)! }));
    }
    expect(allocateAddresses(node(3), [ingress], there)).toEqual([{ networkId: 'ingress', address: '10.252.3.5' }]);
    expect(allocateAddresses(node(3), [ingress], there.slice(10, 11).concat(there.slice(-1)))![0]!.address).toBe(
      '10.252.3.5',
    );
  });

  test('node numbers fill gaps and are limited by the subnet', () => {
    expect(allocateNodeNumber([node(1), node(3)], [ingress])).toBe(2);
    const all = Array.from({ length: 1023 }, (_, index) => node(index + 1));
    expect(allocateNodeNumber(all, [ingress])).toBeUndefined();
    expect(nodeBlock(ingress.subnets[0]!, { number: 1023 })).toBe('10.255.255.0/24');
  });

  test('blocks do not overlap in either family, and slots count their addresses', () => {
    expect(blockOf('fd6d:6573:6800::/48', 64, 258)).toBe('fd6d:6573:6800:102::/64');
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1023 }), fc.nat(255), fc.boolean(), (number, slot, six) => {
        const block = six ? blockOf('fd6d:6573:6800::/48', 64, number)! : blockOf('10.252.0.0/14', 24, number)!;
        expect(slotOf(block, addressAt(block, slot))).toBe(slot);
        expect(blockSize(block)).toBe(six ? 65_536 : 256);
      }),
    );
  });
});

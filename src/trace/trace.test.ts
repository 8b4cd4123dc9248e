import { describe, expect, test } from 'vitest';
import type { Assignment } from '../model/assignment.ts';
import type { TaskSocket } from '../model/bound-socket.ts';
import { keyOf, stateOf } from '../model/kernel-state.ts';
import { parseFirewallRule } from '../model/kinds/parse-firewall-rule.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import type { ConnectionRoutes } from '../model/route-lookup.ts';
import { stateFromJson, stateToJson } from '../model/state-json.ts';
import { CAPABILITIES, emptyAssignment, peer, task } from '../plan/assignments.test-data.ts';
import { plan } from '../plan/plan.ts';
import type { NodeState, TraceRequest } from './packet.ts';
import { trace } from './trace.ts';

const BOTH = ['inet', 'inet6'] as const;
const TASKS = [task('aaaaaaaaaaaa', 2, 1, BOTH), task('bbbbbbbbbbbb', 3, 1, BOTH), task('cccccccccccc', 1, 1, BOTH)];
const TASK_NODES = [2, 3, 1];

/** The kernels of three nodes, each with a task that is an endpoint of 8080/tcp → 80. */
function cluster(change: (assignment: Assignment) => void = () => {}, facts = CAPABILITIES): NodeState[] {
  return [1, 2, 3].map((number) => {
    const assignment = emptyAssignment(number, BOTH);
    assignment.peers = [1, 2, 3].filter((other) => other !== number).map((other) => peer(other, BOTH));
    assignment.tasks = TASKS.filter((_, index) => TASK_NODES[index] === number);
    const endpoints = TASKS.flatMap(({ id, addresses }, index) =>
      addresses.map(({ address }) => ({
        taskId: id,
        nodeId: `node${TASK_NODES[index]}`,
        address,
        port: 80,
        weight: 1,
      })),
    );
    const port = { protocol: 'tcp', published: 8080, mode: 'ingress', serviceId: 's1', serviceName: 'web' } as const;
    assignment.ports = [{ ...port, scheduler: 'rr', endpoints }];
    change(assignment);
    return {
      nodeId: `node${number}`,
      name: `node${number}`,
      revision: 1,
      state: plan(assignment, facts),
      addresses: [`192.0.2.${number}`, `2001:db8::${number}`, '127.0.0.1', '::1', `10.252.${number}.1`],
    };
  });
}

function runTrace(nodes: NodeState[], changes: Partial<TraceRequest> = {}) {
  const node = nodes[0]!;
  const request = { client: '198.51.100.7', node, destination: '192.0.2.1', protocol: 'tcp', port: 8080 } as const;
  return trace({ ...request, ...changes }, nodes);
}

function removeObjects(node: NodeState, matches: (object: KernelObject) => boolean): void {
  const state = new Map(node.state);
  let count = 0;
  for (const object of node.state.values()) if (matches(object)) count += Number(state.delete(keyOf(object)));
  expect(count).toBeGreaterThan(0);
  node.state = state;
}

describe('a healthy mesh', () => {
  test.each([
    ['an outside client', '198.51.100.7', '192.0.2.1'],
    ['an outside client, IPv6', '2001:db8::77', '2001:db8::1'],
    ['the node itself', '192.0.2.1', '192.0.2.1'],
    ['the node itself by localhost', '127.0.0.1', '127.0.0.1'],
    ['another node', '192.0.2.3', '192.0.2.1'],
  ])('%s reaches every task', (_, client, destination) => {
    const { outcome, reason, paths } = runTrace(cluster(), { client, destination });
    expect({ outcome, reason, paths: paths.map((path) => path.outcome) }).toEqual({
      outcome: 'answered',
      reason: '',
      paths: ['answered', 'answered', 'answered'],
    });
    expect(paths.map(({ taskId }) => taskId).sort()).toEqual(TASKS.map(({ id }) => id));
  });

  test('the fast path bypasses the host, for clients of the underlay address only', () => {
    const nodes = cluster(() => {}, { ...CAPABILITIES, fastPath: { link: 'eth0' } });
    const first = (question: Partial<TraceRequest>) => {
      const { outcome, hops } = runTrace(nodes, question);
      expect(outcome).toBe('answered');
      return hops.map(({ netns, object }) => `${netns} ${object}`);
    };
    const short = first({});
    expect(short[0]).toMatch(/^host filter dev eth0 ingress .*mesh-host-in/);
    expect(short[1]).toMatch(/^mesh-lb /);
    const overTheWire = runTrace(nodes).paths.map(({ hops }) =>
      hops.map(({ node, netns, object }) => `${node} ${netns} ${object}`),
    );
    for (const hops of overTheWire.filter((path) => path.some((hop) => hop.startsWith('node3 ')))) {
      expect(
        hops.filter((hop) => /host filter dev eth0 .*mesh-host-in/.test(hop)).map((hop) => hop.slice(0, 5)),
      ).toEqual(['node3', 'node1']);
      expect(hops.join('\n')).toMatch(/^node3 mesh-net-ingress filter dev host0 .*mesh-router-in$/m);
    }
    expect(first({ destination: '10.252.1.1' })[0]).toMatch(/^host -t nat MESH-PREROUTING/);
    expect(first({ client: '192.0.2.1' })[0]).toMatch(/^host -t nat MESH-OUTPUT/);
  });

  test('the fast path bypasses the router in both directions', () => {
    const { outcome, hops, paths } = runTrace(cluster(() => {}, { ...CAPABILITIES, fastPath: {} }));
    expect(outcome).toBe('answered');
    expect(hops[0]!.object).toMatch(/MESH-PREROUTING/);
    for (const path of paths) {
      expect(path.outcome).toBe('answered');
      const inside = path.hops.filter(({ netns }) => netns === 'mesh-net-ingress').map(({ object }) => object);
      expect(inside.filter((object) => /mesh-router-in|mesh-task-out/.test(object))).toHaveLength(2);
      expect(inside.join('\n')).not.toMatch(/MESH-|^route /m);
    }
  });

  test('a port with affinity, whose service is found by the address of the lb', () => {
    const nodes = cluster(({ ports }) => {
      ports[0]!.persistence = { timeout: 60_000, prefix: { inet: 32, inet6: 128 } };
    });
    const { outcome, hops } = runTrace(nodes);
    expect(outcome).toBe('answered');
    expect(hops.map(({ object }) => object).join('\n')).toMatch(/ipvsadm -A -t 10\.252\.\d\.2:8080 -s rr -p 60/);
  });

  test('a task answers only where a socket of it accepts the family of the client', () => {
    const socket = (taskId: string, address: string, more: Partial<TaskSocket> = {}): TaskSocket => ({
      ...{ taskId, protocol: 'tcp', port: 80, address },
      ...more,
    });
    const [first, second, third] = TASKS.map(({ id }) => id) as [string, string, string];
    const nodes = cluster();
    nodes[1]!.sockets = [socket(first, '0.0.0.0')];
    nodes[2]!.sockets = [socket(second, '::', { v6only: true }), socket(second, '0.0.0.0', { protocol: 'udp' })];
    nodes[0]!.sockets = [socket(third, '::'), socket(second, '0.0.0.0')];
    const outcomes = (client: string, destination: string) =>
      Object.fromEntries(
        runTrace(nodes, { client, destination }).paths.map(({ taskId, outcome }) => [taskId, outcome]),
      );
    expect(outcomes('198.51.100.7', '192.0.2.1')).toEqual({
      [first]: 'answered',
      [second]: 'refused',
      [third]: 'answered',
    });
    expect(outcomes('2001:db8::77', '2001:db8::1')).toEqual({
      [first]: 'refused',
      [second]: 'answered',
      [third]: 'answered',
    });
    nodes[1]!.sockets = [];
    expect(runTrace(nodes)).toMatchObject({
      outcome: 'refused',
      reason: expect.stringContaining('no socket of the task accepts IPv4 on 80/tcp. See `meshctl service ps`'),
    });
  });

  test('names the objects on the path, node by node', () => {
    const { hops, paths } = runTrace(cluster());
    const lines = [...hops, ...paths[0]!.hops].map(({ node, netns, object, effect }) =>
      [node, netns, object, effect].join(' | '),
    );
    expect(lines.join('\n')).toMatchSnapshot();
  });
});

/** The states after a change by another program, decoded as agents send them. */
function changedByOthers(change: (object: KernelObject) => KernelObject | undefined): NodeState[] {
  let count = 0;
  const [first, ...others] = cluster();
  const objects = [...first!.state.values()].map((object) => {
    const changed = change(object);
    if (changed !== undefined) count += 1;
    return changed ?? object;
  });
  expect(count).toBeGreaterThan(0);
  const read = stateFromJson(stateToJson(stateOf(objects)));
  if (!read.ok) throw read.error;
  return [{ ...first!, state: read.value }, ...others];
}

describe('changes by another program are evaluated as the kernel does', () => {
  const isServer = (object: KernelObject) => object.kind === 'real-server' && object.address === '10.252.2.5';

  test.each([
    ['forwarding tunnel', 'lost', /forwarding tunnel/],
    ['forwarding direct', 'lost', /forwarding direct/],
    ['forwarding local', 'refused', /forwarding local/],
  ] as const)('a real server with %s reaches no task, the others do', (words, outcome, reason) => {
    const nodes = changedByOthers((object) => (isServer(object) ? { ...object, foreign: [words] } : undefined));
    const result = runTrace(nodes);
    expect(result.reason).toMatch(reason);
    expect(result.outcome).toBe(outcome);
    expect(result.paths.map((path) => path.outcome).sort()).toEqual(['answered', 'answered', outcome].sort());
  });

  test('a real server with a connection limit answers, and the limit is shown', () => {
    const nodes = changedByOthers((object) =>
      isServer(object) ? { ...object, foreign: ['upper threshold 5'] } : undefined,
    );
    const { outcome, paths } = runTrace(nodes);
    expect(outcome).toBe('answered');
    expect(paths.flatMap(({ hops }) => hops.map(({ effect }) => effect)).join('\n')).toMatch(/upper threshold 5/);
  });

  test.each<[string, (object: KernelObject) => KernelObject | undefined, RegExp]>([
    [
      'a route that discards packets',
      (o) => (o.kind === 'route' && o.netns === 'host' ? { ...o, foreign: ['blackhole'] } : undefined),
      /discarded \(blackhole\)/,
    ],
    [
      'an FDB entry to another port',
      (o) => (o.kind === 'fdb' ? { ...o, foreign: ['port 8472'] } : undefined),
      /port 8472/,
    ],
    [
      'a chain that drops everything',
      (o) =>
        o.kind === 'chain' && o.chain === 'MESH-FORWARD' && o.netns === 'host'
          ? { ...o, rules: [parseFirewallRule('-j DROP'), ...o.rules] }
          : undefined,
      /dropped/,
    ],
  ])('%s loses them', (_, change, reason) => {
    const { outcome, reason: actual } = runTrace(changedByOthers(change));
    expect(outcome).toBe('lost');
    expect(actual).toMatch(reason);
  });

  test('a rule that meshd cannot parse is shown, but not evaluated', () => {
    const text = '-p udp -m comment --comment x -j DROP';
    const nodes = changedByOthers((o) =>
      o.kind === 'chain' && o.chain === 'MESH-FORWARD' && o.netns === 'host'
        ? { ...o, rules: [parseFirewallRule(text), ...o.rules] }
        : undefined,
    );
    const { outcome, hops } = runTrace(nodes);
    expect(outcome).toBe('answered');
    expect(hops.map(({ object, effect }) => `${object} ${effect}`).join('\n')).toContain(`${text} is no rule of meshd`);
  });
});

describe('the host of the entry node', () => {
  const healthy: ConnectionRoutes = {
    own: { link: 'eth1', via: '198.51.100.254', table: 100 },
    answer: { link: 'eth1', via: '198.51.100.254', table: 100 },
    request: { link: 'mesh0', table: 254 },
  };

  test('is followed in both directions, by the answers of its kernel', () => {
    const { outcome, paths } = runTrace(cluster(), { routes: healthy });
    expect(outcome).toBe('answered');
    for (const { hops } of paths) {
      const words = hops.map(({ node, netns, object, effect }) => `${node} ${netns} ${object}: ${effect}`);
      expect(words.at(-2)).toMatch(/^node1 host -t filter MESH-FORWARD -i mesh0 .*DNAT -j ACCEPT: accepted$/);
      expect(words.at(-1)).toBe(
        'node1 host route to 198.51.100.7 iif mesh0: leaves by eth1 via 198.51.100.254 with source 192.0.2.1',
      );
    }
  });

  test.each<[string, Partial<ConnectionRoutes>, RegExp]>([
    ['a request that is routed elsewhere', { request: { link: 'eth0', table: 100 } }, /to eth0 instead of mesh0/],
    ['a request without a route', { request: { error: 'ENETUNREACH' } }, /no way to the lb \(ENETUNREACH\)/],
    ['a strict reverse path check', { request: { error: 'EXDEV' } }, /reverse path check of eth1 drops the request/],
    ['a strict reverse path check of a newer kernel', { request: { error: 'EINVAL' } }, /reverse path check of eth1/],
    ['an answer by another link', { answer: { link: 'eth0', table: 254 } }, /leaves by eth0, but .* by eth1 via/],
    [
      'an answer by another gateway',
      { answer: { link: 'eth1', via: '198.51.100.1', table: 254 } },
      /leaves by eth1 via 198\.51\.100\.1, but/,
    ],
    ['an answer without a route', { answer: { error: 'EACCES' } }, /leaves by no route \(EACCES\)/],
    ['a client that the host has no way to', { own: { error: 'ENETUNREACH' } }, /no way back to the client/],
  ])('%s is lost', (_, change, reason) => {
    const { outcome, reason: actual } = runTrace(cluster(), { routes: { ...healthy, ...change } });
    expect(outcome).toBe('lost');
    expect(actual).toMatch(reason);
  });

  test('with the fast path, answers leave by the way of the host’s own packets', () => {
    const nodes = cluster(() => {}, { ...CAPABILITIES, fastPath: { link: 'eth0' } });
    const other = { ...healthy, answer: { error: 'EACCES' }, request: { error: 'EACCES' } };
    expect(runTrace(nodes, { routes: other })).toMatchObject({ outcome: 'answered' });
    const none = { ...healthy, own: { error: 'ENETUNREACH' } };
    expect(runTrace(nodes, { routes: none })).toMatchObject({ outcome: 'lost' });
  });

  test('that drops answers is found', () => {
    const nodes = cluster();
    removeObjects(nodes[0]!, (o) => o.kind === 'jump' && o.netns === 'host' && o.from === 'FORWARD');
    expect(runTrace(nodes)).toMatchObject({ outcome: 'lost' });
  });

  test.each(['10.252.1.77', '10.252.2.77', '10.252.3.77'])(
    'gets no answer for a client in the overlay, %s',
    (client) => {
      const { outcome, paths } = runTrace(cluster(), { client });
      expect(outcome).not.toBe('answered');
      for (const path of paths) expect(path.outcome).not.toBe('answered');
    },
  );

  test('keeps link-local connections, which are never forwarded', () => {
    const nodes = cluster();
    nodes[0]!.addresses = [...nodes[0]!.addresses, 'fe80::1'];
    for (const [client, destination] of [
      ['fe80::77', 'fe80::1'],
      ['fe80::77', '2001:db8::1'],
    ] as const) {
      const { outcome, reason } = runTrace(nodes, { client, destination });
      expect(outcome).toBe('refused');
      expect(reason).toMatch(/the mesh does not take 8080\/tcp there/);
    }
  });
});

describe('the object that drops a packet is named', () => {
  test.each<[string, number, (object: KernelObject) => boolean, 'refused' | 'lost', RegExp]>([
    ['not published', 0, (o) => o.kind === 'set-member' && o.netns === 'host', 'refused', /does not take 8080\/tcp/],
    [
      'no DNAT chain',
      0,
      (o) => o.kind === 'jump' && o.table === 'nat' && o.family === 'inet',
      'lost',
      /nat MESH-PREROUTING/,
    ],
    ['no way to the lb', 0, (o) => o.kind === 'route' && o.netns === 'host', 'lost', /route to 10\.252\.1\.2/],
    ['no fwmark', 0, (o) => o.kind === 'set-member' && o.netns === 'mesh-lb', 'refused', /no fwmark/],
    ['no virtual service', 0, (o) => o.kind === 'virtual-service', 'refused', /IPVS has no service for its fwmark/],
    ['no real server', 0, (o) => o.kind === 'real-server', 'refused', /no real server takes new connections/],
    ['no router', 0, (o) => o.kind === 'route' && o.netns === 'mesh-lb', 'lost', /route to 10\.252\./],
    ['no neighbour', 0, (o) => o.kind === 'neighbour', 'lost', /2 of 3 real server.*neighbour|is missing/],
    ['no FDB entry', 0, (o) => o.kind === 'fdb', 'lost', /2 of 3/],
    ['no VXLAN at the other end', 1, (o) => o.kind === 'vxlan', 'lost', /1 of 3.*no node that could be asked/],
    ['no way into the task', 1, (o) => o.kind === 'veth' && o.name.startsWith('t-'), 'lost', /1 of 3.*is missing/],
    ['no address in the task', 1, (o) => o.kind === 'address' && o.dev === 'eth0', 'lost', /1 of 3/],
    ['no way back', 1, (o) => o.kind === 'rule', 'lost', /stays on node2: the connection lost the mark of node1/],
    ['the mark is not kept', 1, (o) => o.kind === 'jump' && o.table === 'mangle', 'lost', /mangle MESH-PREROUTING/],
  ])('%s', (_, node, gone, outcome, reason) => {
    const nodes = cluster();
    removeObjects(nodes[node]!, gone);
    const found = runTrace(nodes);
    const said = [found.reason, ...found.hops, ...found.paths.flatMap(({ hops }) => hops)]
      .map((hop) => (typeof hop === 'string' ? hop : `${hop.object} ${hop.effect}`))
      .join('\n');
    expect(found.outcome).toBe(outcome);
    expect(said).toMatch(reason);
  });

  test('an address that is not the node’s, IPv6 localhost, a service that drains', () => {
    expect(runTrace(cluster(), { destination: '192.0.2.99' })).toMatchObject({ outcome: 'lost' });
    const localhost = runTrace(cluster(), { client: '::1', destination: '::1' });
    expect(localhost).toMatchObject({ outcome: 'refused', reason: 'node1: refused with tcp-reset' });
    const drained = cluster(({ ports }) => {
      for (const endpoint of ports[0]!.endpoints) endpoint.weight = 0;
    });
    expect(runTrace(drained).reason).toMatch(/3 with weight 0 keep what they have/);
  });

  test.each([
    ['in the block of another node', '10.252.2.77'],
    ['in the block of the node that it connects to', '10.252.1.77'],
    ['in the IPv6 block of another node', 'fd6d:65:73:2::77'],
  ])('a client with an address %s gets no answer', (_, client) => {
    const destination = client.includes(':') ? '2001:db8::1' : '192.0.2.1';
    for (const facts of [CAPABILITIES, { ...CAPABILITIES, fastPath: {} }]) {
      const found = runTrace(
        cluster(() => {}, facts),
        { client, destination },
      );
      expect(found.outcome).toBe('lost');
      expect(found.reason).toContain(`stays in the overlay: ${client} is in the block of a node`);
    }
  });

  test('a client with an address of the overlay that no node has yet: the router rejects the answer of a local task', () => {
    const found = runTrace(cluster(), { client: '10.252.200.77' });
    expect(found.outcome).toBe('lost');
    const [path] = found.paths.filter(({ outcome }) => outcome !== 'answered');
    expect(path?.hops.at(-1)).toMatchObject({ netns: 'mesh-net-ingress', verdict: 'lost' });
  });

  test('a trace never fails, whichever object is missing', () => {
    const healthy = cluster();
    for (const [index, node] of healthy.entries()) {
      for (const key of node.state.keys()) {
        const nodes = healthy.map((one) => ({ ...one }));
        const state = new Map(node.state);
        state.delete(key);
        nodes[index] = { ...node, state };
        const { outcome, reason } = runTrace(nodes, { node: nodes[0]! });
        expect(outcome === 'answered').toBe(reason === '');
      }
    }
  });
});

test('a state in which any value is garbage, as a damaged agent may answer, never throws', () => {
  const healthy = cluster();
  const garbage = ['999.1.1.1', '10.0.0.0/99', '::', 2 ** 40];
  for (const [key, object] of healthy[0]!.state) {
    for (const name of Object.keys(object)) {
      const read = garbage
        .map((value) => stateFromJson(JSON.stringify([{ ...object, [name]: value }])))
        .find((result) => result.ok && result.value.size === 1);
      if (!read?.ok) continue;
      const [damaged] = read.value;
      const state = new Map(healthy[0]!.state);
      state.delete(key);
      const nodes = [{ ...healthy[0]!, state: state.set(...damaged!) }, ...healthy.slice(1)];
      expect(runTrace(nodes).outcome).toBeTypeOf('string');
    }
  }
});

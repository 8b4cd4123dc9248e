import { afterEach, beforeEach, expect, test } from 'vitest';
import { CAPABILITIES } from '../../plan/assignments.test-data.ts';
import { plan } from '../../plan/plan.ts';
import { spec, type TestCluster, tcp, testCluster } from '../manager.test-data.ts';

let cluster: TestCluster;
let agents: Awaited<ReturnType<TestCluster['agent']>>[];

/** What the kernel of a host with one uplink answers. */
const ROUTES = {
  own: { link: 'eth0', table: 254 },
  answer: { link: 'eth0', table: 254 },
  request: { link: 'mesh0', table: 254 },
};

beforeEach(async () => {
  cluster = await testCluster();
  agents = [await cluster.agent('node1'), await cluster.agent('node2')];
  for (const [index, agent] of agents.entries()) {
    agent.answer = (kind) => {
      if (kind === 'routes') return ROUTES;
      return {
        revision: agent.assignment!.revision,
        addresses: [`192.0.2.${index + 1}`, '127.0.0.1', '::1'],
        objects: [...plan(agent.assignment!, CAPABILITIES).values()],
      };
    };
  }
  const constraints = [{ key: 'node.hostname', operator: '==' as const, value: 'node2' }];
  await cluster.apply(spec('web', { constraints, ports: [tcp(8080)] }));
  await cluster.waitUntil(() => agents[0]!.assignment!.ports[0]?.endpoints.length === 1);
});
afterEach(() => cluster.stop());

const trace = (client: string, node: string, port = 8080, protocol: 'tcp' | 'udp' = 'tcp') =>
  cluster.control.trace({ client, node, port, protocol });

test('a packet is followed over the nodes involved to the task, and back', async () => {
  const reply = await trace('198.51.100.7', 'node1');
  expect(reply).toMatchObject({ client: '198.51.100.7', destination: '192.0.2.1', outcome: 'answered', reason: '' });
  expect(reply.nodes.map(({ nodeName, error }) => [nodeName, error])).toEqual([
    ['node1', ''],
    ['node2', ''],
  ]);
  expect(reply.hops[0]).toMatchObject({ node: 'node1', netns: 'host', verdict: 'pass' });
  expect(reply.paths).toMatchObject([{ port: 80, task: { serviceName: 'web', slot: 1, nodeName: 'node2' } }]);
  // A node is found by any of its addresses, too; the client may be a node.
  expect(await trace('node2', '192.0.2.1')).toMatchObject({ client: '192.0.2.2', outcome: 'answered' });
  expect(await trace('localhost', 'node1')).toMatchObject({ client: '127.0.0.1', destination: '127.0.0.1' });
});

test('a task without a socket for the family of the client refuses it', async () => {
  const { answer } = agents[1]!;
  const [task] = await cluster.tasks();
  const withSockets = (sockets: object[]) => {
    agents[1]!.answer = (kind) => (kind === 'routes' ? ROUTES : { ...(answer!(kind, '') as object), sockets });
  };
  withSockets([{ taskId: task!.id, protocol: 'tcp', port: 80, address: '0.0.0.0' }]);
  expect(await trace('198.51.100.7', 'node1')).toMatchObject({ outcome: 'answered' });
  withSockets([{ taskId: task!.id, protocol: 'tcp', port: 80, address: '::', v6only: true }]);
  expect(await trace('198.51.100.7', 'node1')).toMatchObject({
    outcome: 'refused',
    reason: expect.stringContaining('no socket of the task accepts IPv4 on 80/tcp, only :: (IPV6_V6ONLY)'),
  });
});

test('a port that is not published is an error', async () => {
  expect(await trace('node2', '192.0.2.1', 9999, 'udp')).toMatchObject({ outcome: 'refused', paths: [] });
});

test('an answer that cannot be read is an error of that node alone', async () => {
  for (const answer of [{ revision: 'seven' }, { revision: 7, addresses: [], objects: [5] }, 'no object']) {
    agents[1]!.answer = () => answer;
    const reply = await trace('198.51.100.7', 'node1');
    expect(reply.nodes.map(({ nodeName, error }) => [nodeName, error])).toEqual([
      ['node1', ''],
      ['node2', expect.stringMatching(/^its answer cannot be read \(.*\); install the same version of meshd/)],
    ]);
    expect(reply).toMatchObject({ outcome: 'lost' });
  }
  await expect(trace('198.51.100.7', 'node2')).rejects.toMatchObject({ code: 'unavailable' });
});

test('the host of the entry node reports its routes, which decide over the request and the answer', async () => {
  const asked: string[] = [];
  const answers = agents.map(({ answer }) => answer!);
  const withRoutes = (routes: unknown) => {
    for (const [index, agent] of agents.entries()) {
      agent.answer = (kind, argument) => {
        if (kind !== 'routes') return answers[index]!(kind, argument);
        asked.push(`node${index + 1} ${argument}`);
        return routes;
      };
    }
  };
  withRoutes(ROUTES);
  const { outcome, hops, paths } = await trace('198.51.100.7', 'node1');
  expect(outcome).toBe('answered');
  expect(paths[0]!.hops.at(-1)).toMatchObject({ node: 'node1', object: 'route to 198.51.100.7 iif mesh0' });
  expect(hops.map(({ verdict }) => verdict)).not.toContain('lost');
  expect(asked).toHaveLength(1);
  expect(asked[0]!.startsWith('node1 ')).toBe(true);
  expect(JSON.parse(asked[0]!.slice('node1 '.length))).toEqual({
    client: '198.51.100.7',
    called: '192.0.2.1',
    protocol: 'tcp',
    published: 8080,
  });

  for (const [change, reason] of [
    [{ answer: { link: 'eth1', table: 254 } }, /the answer leaves by eth1, but packets from 192\.0\.2\.1 by eth0/],
    [{ answer: { ...ROUTES.answer, via: '192.0.2.254' } }, /leaves by eth0 via 192\.0\.2\.254, but/],
    [{ answer: { error: 'ENETUNREACH' } }, /the answer leaves by no route \(ENETUNREACH\)/],
    [{ own: { error: 'ENETUNREACH' } }, /no way back to the client \(ENETUNREACH\)/],
    [{ request: { error: 'EXDEV' } }, /reverse path check of eth0 drops the request/],
    [{ request: { link: 'tun0', table: 52 } }, /the host sends it to tun0 instead of mesh0/],
  ] as const) {
    withRoutes({ ...ROUTES, ...change });
    expect(await trace('198.51.100.7', 'node1')).toMatchObject({
      outcome: 'lost',
      reason: expect.stringMatching(reason),
    });
  }

  // Without them nothing is known of the answer.
  for (const routes of [{}, { ...ROUTES, own: { link: 5 } }, 'none']) {
    withRoutes(routes);
    await expect(trace('198.51.100.7', 'node1')).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('node1 did not report the routes of its host: its answer cannot be read'),
    });
  }
});

test('fields of a newer agent are ignored', async () => {
  const { answer } = agents[0]!;
  agents[0]!.answer = (kind) => ({ ...(answer!(kind, '') as object), colour: 'blue' });
  expect(await trace('198.51.100.7', 'node1')).toMatchObject({ outcome: 'answered' });
});

test('unknown nodes and addresses are errors', async () => {
  await expect(trace('missing', 'node1')).rejects.toMatchObject({ code: 'not-found' });
  await expect(trace('198.51.100.7', 'node9')).rejects.toMatchObject({ code: 'not-found' });
  await expect(trace('198.51.100.7', '192.0.2.99')).rejects.toThrow('no node has the address 192.0.2.99');
  await expect(trace('2001:db8::7', 'node1')).rejects.toThrow('node1 has no inet6 address that 2001:db8::7 can reach');
});

test('the doctor examines each node; an answer that cannot be read is a finding about that node', async () => {
  agents[0]!.answer = () => ({
    now: cluster.clock.now(),
    took: 1,
    version: 'test',
    findings: [{ level: 'warning', code: 'OfALaterVersion', params: { path: '/x' } }],
    echoes: [{ nodeId: agents[1]!.nodeId, underlay: '192.0.2.2', small: 0.5 }],
    overlayMtu: 1450,
  });
  agents[1]!.answer = () => ({ now: 'noon' });
  const { nodes } = await cluster.control.doctor({ nodes: [] });
  const problems = nodes.flatMap(({ nodeName, findings }) =>
    findings.filter(({ level }) => level !== 'ok').map(({ code, what }) => `${nodeName} ${code}: ${what}`),
  );
  expect(problems).toEqual([
    'node1 OfALaterVersion: OfALaterVersion (path /x)',
    expect.stringMatching(/^node1 PathLosesFullSize: /),
    expect.stringMatching(/^node2 NodeAnswerFailed: .*its answer cannot be read \(now: /),
  ]);
  expect(nodes[0]!.paths).toEqual([{ node: 'node2', address: '192.0.2.2', small: 0.5 }]);
  expect((await cluster.control.doctor({ nodes: ['node2'] })).nodes.map(({ nodeName }) => nodeName)).toEqual(['node2']);
});

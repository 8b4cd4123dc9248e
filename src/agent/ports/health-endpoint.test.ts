import { connect, createServer, type Server, type Socket } from 'node:net';
import { duplexPair } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import type { AssignedPort } from '../../model/assignment.ts';
import { condition } from '../../model/condition.ts';
import { assignment, eventually } from '../agent.test-data.ts';
import { createConditions } from '../conditions.ts';
import { createHealthEndpoint, type HealthEndpoint } from './health-endpoint.ts';
import { handleHealthRequest, mayReadDetails, type NodeHealth, nodeHealth } from './health-request.ts';
import { createHealthServer } from './health-server.ts';
import { sourceOf } from './health-source.ts';

const port = (weights: Record<string, number>, more: Partial<AssignedPort> = {}): AssignedPort => ({
  protocol: 'tcp',
  published: 8080,
  mode: 'ingress',
  serviceId: 's1',
  serviceName: 'web',
  scheduler: 'rr',
  endpoints: Object.entries(weights).map(([nodeId, weight], index) => ({
    taskId: `t${index}`,
    nodeId,
    address: `10.252.0.${index + 5}`,
    port: 80,
    weight,
  })),
  ...more,
});
const view = (ports: AssignedPort[] | undefined, more: Partial<NodeHealth> = {}): NodeHealth => ({
  nodeId: 'n1',
  ports,
  publishes: () => true,
  problems: [],
  nodeAddresses: ['192.0.2.1', '2001:db8::1'],
  ...more,
});
const statusOf = (weights: Record<string, number>, more: Partial<AssignedPort> = {}) =>
  handleHealthRequest('/ports/8080/tcp', view([port(weights, more)])).status;

describe('a port', () => {
  it('is healthy with policy cluster and prefer-local while any task accepts connections', () => {
    for (const policy of [undefined, 'cluster', 'prefer-local'] as const) {
      const more = policy === undefined ? {} : { policy };
      expect(statusOf({ n2: 1 }, more)).toBe(200);
      expect(statusOf({ n1: 0, n2: 0 }, more)).toBe(503);
      expect(statusOf({}, more)).toBe(503);
    }
  });

  it('answers under policy local only while a task of this node does', () => {
    expect(statusOf({ n1: 1, n2: 1 }, { policy: 'local' })).toBe(200);
    expect(statusOf({ n1: 0, n2: 1 }, { policy: 'local' })).toBe(503);
    expect(statusOf({ n2: 1 }, { policy: 'local' })).toBe(503);
  });

  it('has details: service, policy and the number of local tasks', () => {
    const { details } = handleHealthRequest('/ports/8080', view([port({ n1: 3, n2: 1 }, { policy: 'local' })]));
    expect(details).toEqual({
      port: 8080,
      protocol: 'tcp',
      service: 'web',
      mode: 'ingress',
      policy: 'local',
      local: 1,
    });
  });

  it('that no service publishes is unknown, a withheld one is unavailable', () => {
    expect(handleHealthRequest('/ports/8081/tcp', view([port({ n1: 1 })])).status).toBe(404);
    expect(handleHealthRequest('/ports/8080/udp', view([port({ n1: 1 })])).status).toBe(404);
    expect(handleHealthRequest('/ports/8080/tcp', view([port({ n1: 1 })], { publishes: () => false })).status).toBe(
      503,
    );
    expect(handleHealthRequest('/ports/8080/tcp', view(undefined)).status).toBe(503);
  });

  it('without a protocol is tcp before udp', () => {
    const both = [port({}, { protocol: 'udp' }), port({ n1: 1 })];
    expect(handleHealthRequest('/ports/8080', view(both))).toMatchObject({ status: 200, details: { protocol: 'tcp' } });
    expect(handleHealthRequest('/ports/8080/udp', view(both)).status).toBe(503);
  });
});

it('other paths are not found', () => {
  for (const path of ['/', '/ports', '/ports/', '/ports/x', '/ports/80/tcp/x', '/ports/123456', '/healthz/', '*']) {
    expect(handleHealthRequest(path, view([port({ n1: 1 })])).status).toBe(404);
  }
});

describe('details', () => {
  it.each([
    ['127.0.0.1', true],
    ['::ffff:127.0.0.2', true],
    ['::1', true],
    ['192.0.2.1', true],
    ['::ffff:192.0.2.1', true],
    ['2001:DB8:0::1', true],
    ['192.0.2.10', false],
    ['198.51.100.7', false],
    ['fe80::1%eth0', false],
    [undefined, false],
  ])('for %s: %s', (caller, expected) => {
    expect(mayReadDetails(caller, ['192.0.2.1', '2001:db8::1'])).toBe(expected);
  });

  it('are sent to this node and its peers only, and include kernel errors', () => {
    const current = assignment();
    const problem = condition('KernelUnavailable', { error: 'EPERM' });
    const health = nodeHealth(current, () => true, 3, [problem]);
    expect(health.nodeAddresses).toEqual([current.self.underlay, ...current.peers.map(({ underlay }) => underlay)]);
    expect(health.problems).toEqual([expect.stringContaining('EPERM')]);
    expect(nodeHealth(undefined, () => true, 0, []).problems).toHaveLength(1);
  });
});

describe('the endpoint', () => {
  const endpoints: HealthEndpoint[] = [];
  const servers: Server[] = [];
  afterEach(() => {
    for (const endpoint of endpoints.splice(0)) endpoint.stop();
    for (const server of servers.splice(0)) server.close();
  });

  const conditions = createConditions(() => {});
  const start = (listen: string, node: () => NodeHealth = () => view([port({ n1: 1 })])) => {
    const clock = { ...systemClock, after: (_: number, work: () => void) => systemClock.after(20, work) };
    const endpoint = createHealthEndpoint({ listen, health: node, conditions, clock, log: silentLog() });
    endpoint.start();
    endpoints.push(endpoint);
    return endpoint;
  };
  const urlOf = async (endpoint: HealthEndpoint) =>
    `http://127.0.0.1:${(await eventually(() => endpoint.address(), 'listening')).port}`;

  it('answers over HTTP, on every address', async () => {
    let problems: string[] = [];
    const endpoint = start('[::]:0', () => view([port({ n1: 1 })], { problems }));
    const url = await urlOf(endpoint);
    const response = await fetch(`${url}/ports/8080/tcp?x=1`);
    expect([response.status, await response.json()]).toMatchObject([200, { service: 'web', local: 1 }]);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    problems = ['the kernel refused'];
    const failing = await fetch(`${url}/healthz`);
    expect([failing.status, await failing.json()]).toEqual([503, { status: 'failing', problems }]);
    expect((await fetch(`${url}/healthz`, { method: 'HEAD' })).status).toBe(503);
    expect((await fetch(`${url}/healthz`, { method: 'POST', body: 'x'.repeat(100_000) })).status).toBe(405);
  });

  it('sends only a status and one word to callers that are neither this machine nor a node', async () => {
    const server = createHealthServer(() => view([port({ n1: 1 })], { problems: ['ipvsadm: EPERM'] }));
    const ask = async (caller: string, path: string) => {
      const [client, accepted] = duplexPair();
      server.emit('connection', Object.assign(accepted, { remoteAddress: caller }));
      client.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
      const response = await text(client);
      return [Number(response.split(' ')[1]), response.split('\r\n\r\n')[1]];
    };
    const outsider = '::ffff:198.51.100.7';
    expect(await ask(outsider, '/ports/8080/tcp')).toEqual([200, expect.stringContaining('ok')]);
    expect(String(await ask(outsider, '/ports/8080/tcp'))).not.toContain('web');
    expect(await ask(outsider, '/healthz')).toEqual([503, expect.stringContaining('unavailable')]);
    expect(String(await ask(outsider, '/healthz'))).not.toContain('EPERM');
    expect(await ask(outsider, '/ports/9/tcp')).toEqual([404, expect.stringContaining('unknown')]);
    expect((await ask('::ffff:192.0.2.1', '/healthz'))[1]).toContain('EPERM');
  });

  it('leaves connections for other addresses when one address opens as many as it can', async () => {
    const { port: number } = new URL(await urlOf(start('0.0.0.0:0')));
    const sockets: Socket[] = [];
    const isAnswered = (localAddress: string) =>
      new Promise<boolean>((resolve) => {
        const socket = connect({ port: Number(number), host: '127.0.0.1', localAddress });
        sockets.push(socket);
        socket.on('connect', () => socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n'));
        socket.on('error', () => {});
        socket.on('close', () => resolve(false));
        socket.on('data', () => resolve(true)); // and stays open
      });
    const answers = await Promise.all(Array.from({ length: 80 }, () => isAnswered('127.0.0.2')));
    expect(answers.filter((answered) => answered)).toHaveLength(64);
    expect(await isAnswered('127.0.0.3')).toBe(true);
    for (const socket of sockets) socket.destroy();
    await eventually(() => sockets.every(({ closed }) => closed));
    while (!(await isAnswered('127.0.0.2'))) await new Promise(setImmediate);
    sockets.at(-1)!.destroy();
  });

  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:0:1::7', '2001:db8:0:1::/64'],
    ['2001:db8:0:1:ffff::9', '2001:db8:0:1::/64'],
    ['fe80::1%eth0', 'fe80::/64'],
    [undefined, ''],
  ])('counts %s as %s', (address, source) => {
    expect(sourceOf(address)).toBe(source);
  });

  it('rejects requests that are not HTTP or too large', async () => {
    const url = new URL(await urlOf(start('127.0.0.1:0')));
    const ask = (request: string) =>
      new Promise<string>((resolve) => {
        const socket = connect(Number(url.port), '127.0.0.1', () => socket.write(request));
        let answer = '';
        socket.on('data', (piece) => {
          answer += piece.toString();
        });
        socket.on('error', () => {});
        socket.on('close', () => resolve(answer));
      });
    expect(await ask('hello\r\n\r\n')).toMatch(/^HTTP\/1.1 400/);
    expect(await ask(`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(10_000)}\r\n\r\n`)).toMatch(/^HTTP\/1.1 431/);
  });

  it('raises a condition while its port is in use, and listens once it is free', async () => {
    const squatter = createServer().listen(0, '127.0.0.1');
    servers.push(squatter);
    await eventually(() => squatter.listening);
    const { port: taken } = squatter.address() as { port: number };
    const endpoint = start(`127.0.0.1:${taken}`);
    const raised = await eventually(() => conditions.get('HealthEndpointPortInUse'));
    expect(raised.params).toEqual({ listen: `127.0.0.1:${taken}` });
    squatter.close();
    await urlOf(endpoint);
    await eventually(() => conditions.list().length === 0);
  });
});

import { connect, createServer, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import type { AssignedPort } from '../../model/assignment.ts';
import { eventually } from '../agent.test-data.ts';
import { createConditions } from '../conditions.ts';
import { type HealthEndpoint, startHealthEndpoint } from './health-endpoint.ts';
import { handleHealthRequest, type NodeHealth } from './health-request.ts';

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
  ...more,
});
const statusOf = (weights: Record<string, number>, more: Partial<AssignedPort> = {}) =>
  handleHealthRequest('/ports/8080/tcp', view([port(weights, more)])).status;

describe('a port', () => {
  it('answers under policy cluster and prefer-local while any task takes connections', () => {
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

  it('tells what it is and how many tasks are here', () => {
    const { body } = handleHealthRequest('/ports/8080', view([port({ n1: 3, n2: 1 }, { policy: 'local' })]));
    expect(body).toEqual({
      port: 8080,
      protocol: 'tcp',
      service: 'web',
      mode: 'ingress',
      policy: 'local',
      local: 1,
    });
  });

  it('that nobody publishes is unknown, one the node keeps to itself is out', () => {
    expect(handleHealthRequest('/ports/8081/tcp', view([port({ n1: 1 })])).status).toBe(404);
    expect(handleHealthRequest('/ports/8080/udp', view([port({ n1: 1 })])).status).toBe(404);
    expect(handleHealthRequest('/ports/8080/tcp', view([port({ n1: 1 })], { publishes: () => false })).status).toBe(
      503,
    );
    expect(handleHealthRequest('/ports/8080/tcp', view(undefined)).status).toBe(503);
  });

  it('without a protocol is tcp before udp', () => {
    const both = [port({}, { protocol: 'udp' }), port({ n1: 1 })];
    expect(handleHealthRequest('/ports/8080', view(both))).toMatchObject({ status: 200, body: { protocol: 'tcp' } });
    expect(handleHealthRequest('/ports/8080/udp', view(both)).status).toBe(503);
  });
});

it('nothing else is there', () => {
  for (const path of ['/', '/ports', '/ports/', '/ports/x', '/ports/80/tcp/x', '/ports/123456', '/healthz/', '*']) {
    expect(handleHealthRequest(path, view([port({ n1: 1 })])).status).toBe(404);
  }
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
    const endpoint = startHealthEndpoint({ listen, health: node, conditions, clock, log: silentLog() });
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

  it('refuses what is no HTTP or too large', async () => {
    const url = new URL(await urlOf(start('127.0.0.1:0')));
    const ask = (text: string) =>
      new Promise<string>((resolve) => {
        const socket = connect(Number(url.port), '127.0.0.1', () => socket.write(text));
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

  it('says so when its port is taken, and listens once it is free', async () => {
    const squatter = createServer().listen(0, '127.0.0.1');
    servers.push(squatter);
    await eventually(() => squatter.listening);
    const { port: taken } = squatter.address() as { port: number };
    const endpoint = start(`127.0.0.1:${taken}`);
    const [text] = await eventually(() => conditions.list().length > 0 && conditions.list());
    expect(text).toMatch(/cannot listen on 127\.0\.0\.1:\d+: another program has that port .*--health-listen/);
    squatter.close();
    await urlOf(endpoint);
    await eventually(() => conditions.list().length === 0);
  });
});

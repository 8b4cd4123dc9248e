import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { WatchEvent } from '../rpc/messages.ts';
import { spec, type TestCluster, tcp, testCluster } from './manager.test-data.ts';

let cluster: TestCluster;
beforeEach(async () => {
  cluster = await testCluster();
});
afterEach(() => cluster.stop());

const dryRun = (...ports: number[]) =>
  cluster.control.apply({
    services: [spec('web', { ports: ports.map((port) => tcp(port)) })],
    dryRun: true,
  });
const warningsOf = async (...ports: number[]) => (await dryRun(...ports)).services.flatMap(({ warnings }) => warnings);

describe('programs on the ports of a node', () => {
  it('result in a warning for the service with the port, until they exit', async () => {
    const node = await cluster.agent('node1');
    node.listeners({ protocol: 'tcp', port: 8080, address: '0.0.0.0', pid: 812, process: 'nginx' });
    await cluster.waitUntil(async () => (await warningsOf(8080)).length > 0);
    expect(await warningsOf(8080, 8081)).toEqual([
      'port 8080/tcp is used by nginx (pid 812) on node1; the published port takes precedence: clients of node1 reach service web instead',
    ]);
    expect((await cluster.control.plan({ services: [spec('web', { ports: [tcp(8080)] })] })).services).toMatchObject([
      { warnings: [expect.stringContaining('nginx')] },
    ]);
    node.listeners();
    await cluster.waitUntil(async () => (await warningsOf(8080)).length === 0);
  });

  it('make the whole request fail when sshd is one of them, without changes', async () => {
    const node = await cluster.agent('node1');
    node.listeners({ protocol: 'tcp', port: 2222, address: '0.0.0.0', pid: 700, process: 'sshd', protected: true });
    const apply = () => cluster.apply(spec('fine'), spec('web', { ports: [tcp(2222)] }));
    await cluster.waitUntil(() =>
      dryRun(2222).then(
        () => false,
        () => true,
      ),
    );
    await expect(apply()).rejects.toMatchObject({ code: 'conflict' });
    await expect(apply()).rejects.toThrow(
      'port 2222/tcp is used by sshd (pid 700) on node1, which must stay reachable',
    );
    expect((await cluster.control.listServices({})).services).toEqual([]);
  });
});

describe('a task that accepts one family only', () => {
  const missing = [{ protocol: 'tcp' as const, target: 80, family: 'inet6' as const }];
  const message = 'web.1 accepts no IPv6 clients on its port 80';

  it('is no endpoint in the other, and its port is degraded until it accepts both', async () => {
    await cluster.stop();
    cluster = await testCluster({ families: ['inet', 'inet6'] });
    const node = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(8080), tcp(8081, 81)] }));
    const addresses = () => node.assignment?.ports.map(({ endpoints }) => endpoints.length);
    await cluster.waitUntil(() => addresses()?.join() === '2,2');
    const [task] = await cluster.tasks();
    node.report(task!.id, 'running', { missing });
    await cluster.waitUntil(() => addresses()?.join() === '1,2');
    expect((await cluster.control.listPorts({})).ports.map(({ degraded }) => degraded)).toEqual([
      [{ nodeId: node.nodeId, nodeName: 'node1', kind: 'family', message }],
      [],
    ]);
    expect((await cluster.control.listServices({})).services[0]?.degraded).toMatchObject([
      { kind: 'family', message: 'web.1 accepts no IPv6 clients on its port 80/tcp' },
    ]);
    node.report(task!.id, 'running');
    await cluster.waitUntil(() => addresses()?.join() === '2,2');
    expect((await cluster.control.listPorts({})).ports.flatMap(({ degraded }) => degraded)).toEqual([]);
  });

  it('is one line of its service, however many ports that concerns', async () => {
    const node = await cluster.agent('node1');
    const targets = [21, 30_000, 30_001, 30_002];
    await cluster.apply(spec('ftp', { ports: targets.map((target) => tcp(target, target)) }));
    await cluster.waitUntil(async () => (await cluster.tasks())[0]?.status?.state === 'running');
    const [task] = await cluster.tasks();
    node.report(task!.id, 'running', {
      missing: targets.map((target) => ({ protocol: 'tcp' as const, target, family: 'inet6' as const })),
    });
    const degraded = async () => (await cluster.control.listServices({})).services[0]!.degraded;
    await cluster.waitUntil(async () => (await degraded()).length > 0);
    expect((await degraded()).map(({ message }) => message)).toEqual([
      'ftp.1 accepts no IPv6 clients on its ports 21/tcp, 30000-30002/tcp',
    ]);
  });

  it('is reported to watchers of its service', async () => {
    const node = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(8080)] }));
    await cluster.waitUntil(async () => (await cluster.tasks())[0]?.status?.state === 'running');
    const received: string[] = [];
    const stop = new AbortController();
    const watching = (async () => {
      const events = cluster.control.watch({ services: true, tasks: false, nodes: false }, { signal: stop.signal });
      for await (const { object } of events)
        if (object?.case === 'service') received.push(object.value.degraded.map(({ message }) => message).join());
    })().catch(() => undefined);
    await cluster.waitUntil(() => received.length > 0);
    const [task] = await cluster.tasks();
    node.report(task!.id, 'running', { missing });
    await cluster.waitUntil(() => received.at(-1) === `${message}/tcp`);
    stop.abort();
    await watching;
  });
});

describe('a port that differs from its declaration', () => {
  it('is shown with the service, and watchers are notified of each change once', async () => {
    const node = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(8080)] }), spec('other', { ports: [tcp(8081)] }));
    await cluster.waitUntil(async () => (await cluster.tasks()).every(({ status }) => status?.state === 'running'));
    // Acknowledgements of the ports are events of the services, too.
    await cluster.waitUntil(async () =>
      (await cluster.control.listServices({})).services.every(({ pending }) => pending === 0),
    );
    await cluster.advanceTime(500);
    const received: WatchEvent[] = [];
    const stop = new AbortController();
    const watching = (async () => {
      const events = cluster.control.watch({ services: true, tasks: false, nodes: false }, { signal: stop.signal });
      for await (const event of events) received.push(event);
    })().catch(() => undefined);
    await cluster.waitUntil(() => received.some(({ action }) => action === 'ready'));
    const degraded = () =>
      received.flatMap(({ action, object }) =>
        action === 'updated' && object?.case === 'service'
          ? [`${object.value.name} ${object.value.degraded.map(({ nodeName, message }) => `${nodeName} ${message}`)}`]
          : [],
      );
    const taken = { protocol: 'tcp', published: 8080, kind: 'taken', message: 'nginx listens' } as const;
    node.portConditions(taken);
    await cluster.waitUntil(() => degraded().includes('web node1 8080/tcp: nginx listens'));
    const before = degraded().length;
    node.portConditions(taken);
    node.portConditions(taken, { ...taken, published: 8081 });
    await cluster.waitUntil(() => degraded().includes('other node1 8081/tcp: nginx listens'));
    expect(
      degraded()
        .slice(before)
        .filter((text) => text.startsWith('web')),
    ).toEqual([]);
    const sofar = degraded().length; // includes one event for each service from before the conflict
    node.portConditions();
    await cluster.waitUntil(() => ['web ', 'other '].every((text) => degraded().slice(sofar).includes(text)));
    expect((await cluster.control.listPorts({})).ports.flatMap((port) => port.degraded)).toEqual([]);
    stop.abort();
    await watching;
  });
});

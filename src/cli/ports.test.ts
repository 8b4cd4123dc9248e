import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { TaskStatus } from '../model/cluster.ts';
import { makePort, makeService, makeSpec, makeTask } from './fake-meshd.test-data.ts';
import { runMeshctl } from './run.ts';
import { fakeIo, manifest, setUp } from './test-setup.test-data.ts';

const cli = setUp();
const { meshctl, file } = cli;

const withheld = { nodeId: 'n2', nodeName: 'node2', kind: 'withheld' as const, message: 'sshd listens there' };
const taken = { nodeId: 'n1', nodeName: 'node1', kind: 'taken' as const, message: 'nginx (pid 7) listens there' };
const picked = [
  { taskId: 'a', nodeName: 'node1', published: 32_768 },
  { taskId: 'b', nodeName: 'node2', published: 40_001 },
];

describe('port ls', () => {
  beforeEach(() => {
    const dns = makeSpec({
      name: 'dns',
      ports: [
        makePort({ protocol: 'udp', target: 53, published: 53 }),
        makePort({ mode: 'host', published: undefined }),
      ],
    });
    cli.meshd.services = [
      makeService({ spec: makeSpec({ ports: [makePort({ published: 222 })] }), degraded: [withheld, taken] }),
      makeService({ id: 's-dns', spec: dns }),
    ];
    cli.meshd.picked = picked;
  });

  test('by number, with degraded nodes and the numbers that nodes chose', async () => {
    expect(await meshctl(['port', 'ls'])).toEqual({
      status: 0,
      stderr: '',
      stdout: [
        'PUBLISHED                  PROTOCOL   MODE      TARGET   SERVICE   NODES DEGRADED',
        '53                         udp        ingress   53       dns',
        '222                        tcp        ingress   80       web       node2 (sshd listens there), node1 (nginx (pid 7) listens there)',
        'node1:32768, node2:40001   tcp        host      80       dns',
        '',
      ].join('\n'),
    });
    cli.meshd.picked = [];
    expect((await meshctl(['port', 'list'])).stdout).toMatch(/\n\(chosen by the node\) +tcp +host +80 +dns\n$/);
  });

  test('json', async () => {
    const rows = JSON.parse((await meshctl(['port', 'ls', '--format', 'json'])).stdout);
    expect(rows).toMatchObject([
      {
        id: 's-dns',
        name: 'dns',
        published: 53,
        protocol: 'udp',
        mode: 'ingress',
        target: 53,
        degraded: [],
        tasks: [],
      },
      {
        id: 's-web',
        name: 'web',
        published: 222,
        degraded: [
          { node: 'node2', node_id: 'n2', kind: 'withheld', message: 'sshd listens there' },
          { node: 'node1', node_id: 'n1', kind: 'taken' },
        ],
      },
      {
        name: 'dns',
        published: null,
        mode: 'host',
        tasks: [
          { id: 'a', node: 'node1', published: 32_768 },
          { id: 'b', node: 'node2', published: 40_001 },
        ],
      },
    ]);
  });

  test('service ls and status report it, too', async () => {
    expect((await meshctl(['service', 'ls'])).stdout).toMatch(
      /\nweb: degraded on node2: sshd listens there\nweb: degraded on node1: nginx \(pid 7\) listens there\n$/,
    );
    const [, web] = JSON.parse((await meshctl(['service', 'ls', '--format', 'json'])).stdout);
    expect(web.degraded[0]).toEqual({ node: 'node2', node_id: 'n2', kind: 'withheld', message: 'sshd listens there' });
    expect((await meshctl(['status'])).stdout).toMatch(/\npublished ports: +1 degraded; see `meshctl port ls`\n/);
    const [status] = JSON.parse((await meshctl(['status', '--format', 'json'])).stdout);
    expect(status.cluster.degraded_ports).toBe(1);
  });
});

describe('service ps', () => {
  test('health, and the numbers that nodes chose', async () => {
    const ports = [makePort(), makePort({ target: 53, protocol: 'udp', mode: 'host', published: undefined })];
    const status = (health: NonNullable<TaskStatus['health']>, message = ''): TaskStatus => ({
      state: 'running',
      message,
      error: '',
      since: 1000,
      health,
      ports: [{ protocol: 'udp', target: 53, published: 32_768 }],
    });
    // The service's own ports count: those of a task are from when it was made.
    cli.meshd.services = [makeService({ spec: makeSpec({ ports }) })];
    cli.meshd.tasks = [
      makeTask({ id: 'a', slot: 1, ports: [], status: status('healthy', 'fine') }),
      makeTask({ id: 'b', slot: 2, ports: [], status: status('starting', 'connection refused') }),
      makeTask({ id: 'c', slot: 3, ports: [], status: status('unhealthy', 'exit status 1') }),
    ];
    expect((await meshctl(['service', 'ps', 'web'])).stdout.split('\n').slice(1, 4)).toEqual([
      expect.stringMatching(/Running \(healthy\) 1 minute ago {3,}\*:8080->80\/tcp, \*:32768->53\/udp \(host\)$/),
      expect.stringMatching(/Running \(health: starting\) 1 minute ago +connection refused +\*:8080/),
      expect.stringMatching(/Running \(unhealthy\) 1 minute ago +exit status 1 /),
    ]);
    const [task] = JSON.parse((await meshctl(['service', 'ps', 'web', '--format', 'json'])).stdout);
    expect(task).toMatchObject({ health: 'healthy', ports: [{ published: 8080 }, { published: 32_768 }] });
  });
});

describe('service inspect', () => {
  test('--pretty: what Docker shows, and what the mesh adds', async () => {
    const port = makePort({
      scheduler: 'sh',
      schedulerFlags: ['sh-port'],
      fallback: 'lc',
      persistence: { timeout: 300_000, prefix: { inet: 24, inet6: 128 } },
      idleTimeout: 7_200_000,
      policy: 'prefer-local',
      nodes: [{ key: 'node.labels.edge', operator: '==', value: 'true' }],
      addresses: ['192.0.2.7/32'],
      allowFrom: ['10.0.0.0/8', '2001:db8::/32'],
    });
    const spec = makeSpec({
      labels: { team: 'shop' },
      environment: { PORT: '80' },
      user: 'www-data',
      constraints: [{ key: 'node.hostname', operator: '!=', value: 'node1' }],
      ports: [port, makePort({ mode: 'host', target: 81, published: undefined })],
      update: { parallelism: 0, delay: 10_000, order: 'stop-first' },
      health: {
        probe: { kind: 'http', port: 80, path: '/health' },
        interval: 10_000,
        timeout: 1_000,
        retries: 3,
        startPeriod: 0,
        startInterval: 5_000,
      },
      weight: { label: 'cpus', default: 2 },
    });
    cli.meshd.services = [makeService({ spec, running: 2, degraded: [withheld] })];
    cli.meshd.picked = picked;
    expect(await meshctl(['service', 'inspect', '--pretty', 'web'])).toEqual({
      status: 0,
      stderr: '',
      stdout: `ID:                 s-web
Name:               web
Labels:
 team=shop
Service Mode:       Replicated
 Replicas:          2/3 running
Created:            1970-01-01T00:00:01.000Z
Updated:            1970-01-01T00:00:02.000Z
Version:            1
Task generation:    1
Placement:
 Constraints:       node.hostname != node1
UpdateConfig:
 Parallelism:       0 (all at once)
 Delay:             10s
 Update order:      stop-first
RestartPolicy:
 Condition:         any
TaskSpec:
 Runtime:           process
 Command:           node whoami.mjs
 Working dir:       /
 User:              www-data
 Stop grace period: 10s
 Weight:            node.labels.cpus, 2 without that label
Env:
 PORT=80
Healthcheck:
 Test:              GET http://127.0.0.1:80/health
 Interval:          10s
 Timeout:           1s
 Retries:           3
 Start period:      0s
 Start interval:    5s
Ports:
 PublishedPort = 8080
  Protocol = tcp
  TargetPort = 80
  PublishMode = ingress
  Scheduler = sh (sh-port), fallback lc
  Policy = prefer-local
  Persistence = 5m, clients of one /24 (IPv6 /128) as one
  IdleTimeout = 2h
  Nodes = node.labels.edge == true
  Addresses = 192.0.2.7/32
  AllowFrom = 10.0.0.0/8, 2001:db8::/32
  Degraded = node2: sshd listens there
 PublishedPort = node1:32768, node2:40001
  Protocol = tcp
  TargetPort = 81
  PublishMode = host
  Degraded = node2: sshd listens there
`,
    });
    // Asking for a table is asking for something to read.
    expect((await meshctl(['service', 'inspect', 'web', '--format', 'table'])).stdout).toMatch(/^ID: /);
    const [service] = JSON.parse((await meshctl(['service', 'inspect', 'web'])).stdout);
    expect(service).toMatchObject({
      id: 's-web',
      spec: {
        ports: [
          {
            scheduler: 'sh',
            persistence: { timeout: 300_000, prefix: { inet: 24 } },
            allow_from: ['10.0.0.0/8', '2001:db8::/32'],
          },
          { mode: 'host' },
        ],
        health: { probe: { kind: 'http', path: '/health' } },
        weight: { label: 'cpus' },
      },
      degraded: [{ node: 'node2', kind: 'withheld' }],
      picked: [{ target: 81, protocol: 'tcp', node: 'node1', published: 32_768 }, { node: 'node2' }],
    });
  });

  test('--pretty: nothing that was not declared', async () => {
    cli.meshd.services = [makeService({ spec: makeSpec({ mode: 'global', ports: [] }), desired: 2, running: 2 })];
    const { stdout } = await meshctl(['service', 'inspect', '--pretty', 'web']);
    expect(stdout).toMatch(/\nService Mode: +Global\n Replicas: +2\/2 running\n/);
    expect(stdout).not.toMatch(/Ports|Healthcheck|Env|Placement|Weight|User/);
    expect(stdout).toMatch(/\nUpdateConfig:\n Parallelism: +1\n Delay: +0s\n Update order: +start-first\n/);
  });
});

describe('service update', () => {
  beforeEach(() => {
    cli.meshd.services = [makeService()];
    cli.meshd.tasks = [1, 2, 3].map((slot) => makeTask({ id: `t${slot}`, slot }));
  });
  const asked = () => cli.meshd.calls.find(({ name }) => name === 'updateService')?.request;

  test('ports in Docker’s ways of writing them, several at once', async () => {
    const words = ['8081:81', '5353:53/udp', 'published=9000-9001,target=90-91'].flatMap((port) => [
      '--publish-add',
      port,
    ]);
    expect((await meshctl(['service', 'update', ...words, 'web'])).stderr).toMatch(/target is a range/);
    const { status, stdout, stderr } = await meshctl([
      ...['service', 'update', 'web'],
      ...['--publish-add', '8081-8082:81-82', '--publish-add', 'Published=53,TARGET=53,protocol=udp,mode=host'],
      ...['--publish-add', '10.0.0.1:443:443', '--publish-add', '70'],
      ...['--publish-rm', '80', '--publish-rm', '53/udp', '--publish-rm', 'target=90,mode=host,published=9000'],
    ]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toBe(
      'service web (s-web) updated: ports changed\noverall progress: 3 out of 3 tasks\nservice web converged\n',
    );
    const port = (target: number, published?: number) => makePort({ target, published });
    expect(asked()).toMatchObject({
      service: 'web',
      force: false,
      publishAdd: [
        port(81, 8081),
        port(82, 8082),
        { ...port(53, 53), protocol: 'udp', mode: 'host' },
        { ...port(443, 443), addresses: ['10.0.0.1/32'] },
        port(70),
      ],
      publishRemove: [port(80), { ...port(53), protocol: 'udp' }, { ...port(90), mode: 'host' }],
    });
    expect(asked()).not.toHaveProperty('replicas', expect.any(Number));
  });

  test('--replicas, --detach, json', async () => {
    const { stdout } = await meshctl(['service', 'update', '--replicas', '1', 'web']);
    expect(stdout).toContain('overall progress: 1 out of 1 tasks');
    expect(asked()).toMatchObject({ replicas: 1, publishAdd: [], publishRemove: [], force: false });
    const detached = await meshctl(['service', 'update', '--replicas=0', '-d', '--format', 'json', 'web']);
    expect(JSON.parse(detached.stdout)).toEqual([
      { id: 's-web', name: 'web', action: 'updated', changes: ['ports changed'], warnings: [] },
    ]);
    expect(await meshctl(['service', 'update', '--force', 'nope'])).toMatchObject({
      status: 1,
      stderr: 'meshctl: there is no service nope; see meshctl service ls\n',
    });
  });

  test('a rolling replacement is shown until every task is new, runs and is healthy', async () => {
    const task = (slot: number, generation: number, health?: NonNullable<TaskStatus['health']>) =>
      makeTask({
        id: `g${generation}t${slot}`,
        slot,
        generation,
        createdAt: generation,
        status: { state: 'running', message: '', error: '', since: 1, ...(health && { health }) },
      });
    const health = {
      probe: { kind: 'tcp' as const, port: 80 },
      interval: 1,
      timeout: 1,
      retries: 1,
      startPeriod: 0,
      startInterval: 1,
    };
    const spec = makeSpec({ replicas: 2, health });
    cli.meshd.services = [makeService({ spec, taskGeneration: 2 })];
    cli.meshd.tasks = [task(1, 1, 'healthy'), task(2, 1, 'healthy')];
    cli.meshd.onApply = () => {};
    const io = fakeIo({ environment: { MESHCTL_HOST: cli.meshd.host }, terminal: true });
    const done = runMeshctl(['service', 'update', '--force', 'web'], io);
    const report = (value: ReturnType<typeof makeTask>) =>
      cli.meshd.sendEvent({ action: 'updated', object: { case: 'task', value }, revision: 3 });
    const seen = (text: string) => vi.waitUntil(() => io.stdout.includes(text));
    await seen('1/2: running (healthy) on node2, to be replaced\n2/2: running (healthy) on node2, to be replaced');
    report(task(1, 2, 'starting'));
    await seen('overall progress: 0 out of 2 tasks\n1/2: running (health: starting) on node2\n2/2');
    report(task(1, 2, 'healthy'));
    report({ ...task(1, 1), desired: 'drain' });
    await seen('overall progress: 1 out of 2 tasks, 1 stopping\n1/2: running (healthy) on node2\n2/2: running');
    report({ ...task(1, 1), desired: 'shutdown', status: { ...task(1, 1).status!, state: 'shutdown' } });
    report(task(2, 2, 'healthy'));
    report({ ...task(2, 1), desired: 'shutdown', status: { ...task(2, 1).status!, state: 'shutdown' } });
    expect(await done).toBe(0);
    expect(io.stdout).toMatch(/overall progress: 2 out of 2 tasks\n.*\n.*\nservice web converged\n$/);
    expect(asked()).toMatchObject({ force: true });
  });
});

test('warnings go to standard error, whatever the format', async () => {
  cli.meshd.warnings = ['port 8080/tcp is taken on node2: nginx (pid 7) listens there'];
  const expected = 'meshctl: warning: service web: port 8080/tcp is taken on node2: nginx (pid 7) listens there\n';
  const path = await file('a.yaml', manifest());
  for (const format of [[], ['--format', 'json']]) {
    expect(await meshctl(['apply', ...format, path])).toMatchObject({ status: 0, stderr: expected });
    expect(await meshctl(['apply', '--dry-run', ...format, path])).toMatchObject({ status: 0, stderr: expected });
  }
  expect((await meshctl(['service', 'update', '--force', 'web'])).stderr).toBe(expected);
  expect((await meshctl(['plan', path])).stderr).toBe(expected);
});

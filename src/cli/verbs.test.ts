// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the compose-spec look like that
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { aNode, aService, aSpec, aTask, type FakeMeshd, fakeIo, startFakeMeshd } from './fake-meshd.ts';
import type { Io } from './io.ts';
import { runMeshctl } from './run.ts';

let meshd: FakeMeshd;
let directory: string;
beforeEach(async () => {
  meshd = await startFakeMeshd();
  directory = await mkdtemp(join(tmpdir(), 'meshctl-files-'));
});
afterEach(async () => {
  await meshd.stop();
  await rm(directory, { recursive: true });
});

async function meshctl(args: string[], given: Partial<Io> = {}) {
  const io = fakeIo({ environment: { MESHCTL_HOST: meshd.host }, ...given });
  const status = await runMeshctl(args, io);
  return { status, stdout: io.stdout, stderr: io.stderr };
}

const manifest = (name = 'web', more = '') =>
  `services: {${name}: {command: [node, whoami.mjs], ports: ["8080:80"], deploy: {replicas: 3}, x-mesh: {runtime: process}${more}}}`;

async function file(name: string, text: string | Uint8Array): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, text);
  return path;
}

async function* bytes(...texts: string[]): AsyncIterable<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

function lowerCaseKeys(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return Object.entries(value).every(
    ([key, inner]) => (Array.isArray(value) || key === key.toLowerCase()) && lowerCaseKeys(inner),
  );
}

describe('apply', () => {
  test('creates, waits until all run, tells each step once', async () => {
    const { status, stdout, stderr } = await meshctl(['apply', await file('a.yaml', manifest())]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toBe('service web (s-web) created\noverall progress: 3 out of 3 tasks\nservice web converged\n');
    expect(meshd.calls[0]).toMatchObject({
      name: 'apply',
      request: { dryRun: false, services: [{ name: 'web', replicas: 3 }] },
    });
  });

  test('several files and standard input are one transaction', async () => {
    const files = [await file('a.yaml', manifest('a', '').replace('8080', '8081')), '-'];
    const { status } = await meshctl(['apply', '--detach', ...files], {
      input: bytes(manifest('b').slice(0, 20), manifest('b').slice(20)),
    });
    expect(status).toBe(0);
    expect(meshd.calls).toHaveLength(1);
    expect(meshd.calls[0]!.request).toMatchObject({ services: [{ name: 'a' }, { name: 'b' }] });
  });

  test('--dry-run changes nothing and waits for nothing', async () => {
    const { status, stdout } = await meshctl(['apply', '--dry-run', await file('a.yaml', manifest())]);
    expect([status, stdout, meshd.services]).toEqual([0, 'service web would be created\n', []]);
  });

  test('json: the services, without progress', async () => {
    const { stdout } = await meshctl(['apply', '--format', 'json', await file('a.yaml', manifest())]);
    expect(JSON.parse(stdout)).toEqual([{ id: 's-web', name: 'web', action: 'created', changes: [] }]);
  });

  test('an error in any file sends nothing: status 1, one line each, and a sum', async () => {
    const good = await file('good.yaml', manifest());
    const bad = await file('bad.yaml', 'services: {b: {comand: x}}');
    const { status, stdout, stderr } = await meshctl(['apply', good, bad]);
    expect([status, stdout, meshd.calls]).toEqual([1, '', []]);
    expect(stderr.split('\n')).toEqual([
      expect.stringMatching(/bad\.yaml:1:12: services\.b: does not say how it is run/),
      expect.stringMatching(/bad\.yaml:1:12: services\.b: has no command/),
      expect.stringMatching(/bad\.yaml:1:16: services\.b\.comand: unknown key `comand`; did you mean `command`\?$/),
      'meshctl: 3 errors; nothing was changed',
      '',
    ]);
  });

  test('files that are no manifests', async () => {
    const large = await file('large.yaml', Buffer.alloc(2 * 1024 * 1024, '#'));
    const latin = await file('latin.yaml', Buffer.from([0x61, 0xff, 0xfe]));
    expect((await meshctl(['apply', large])).stderr).toMatch(
      /large\.yaml:1:1: is larger than 1048576 characters; split/,
    );
    expect((await meshctl(['apply', latin])).stderr).toMatch(/latin\.yaml:1:1: is not UTF-8 text/);
    expect((await meshctl(['apply', '/nowhere.yaml'])).stderr).toMatch(
      /^meshctl: cannot read \/nowhere.yaml: there is no such file/,
    );
    expect((await meshctl(['apply', directory])).stderr).toMatch(/it is a directory/);
    const endless = (async function* () {
      for (;;) yield Buffer.alloc(65_536, '#');
    })();
    const fromPipe = await meshctl(['apply', '-'], { input: endless });
    expect([fromPipe.status, fromPipe.stderr]).toEqual([1, expect.stringMatching(/^stdin:1:1: is larger than/)]);
  });

  test('variables come from the environment of meshctl', async () => {
    const path = await file('a.yaml', manifest('web', ', working_dir: "${WHERE}"'));
    await meshctl(['apply', '-d', path], { environment: { MESHCTL_HOST: meshd.host, WHERE: '/srv' } });
    expect(meshd.calls[0]!.request).toMatchObject({ services: [{ workingDir: '/srv' }] });
    expect((await meshctl(['apply', '-d', path])).stderr).toMatch(/variable WHERE is not set/);
  });

  test('a task that cannot be placed: says why, gives up at the time limit with status 1', async () => {
    meshd.onApply = (spec) => {
      meshd.services = [aService({ spec, running: 0 })];
      const pending = { state: 'pending', message: 'no node fits: node.labels.zone == a', error: '', since: 1 };
      meshd.tasks = [aTask({ status: pending, nodeName: '' })];
    };
    const { status, stdout, stderr } = await meshctl(['apply', '--timeout', '10s', await file('a.yaml', manifest())]);
    expect(status).toBe(1);
    expect(stdout).toContain('overall progress: 0 out of 3 tasks\nweb: no node fits: node.labels.zone == a\n');
    expect(stderr).toBe(
      'meshctl: not finished after 10s: web: 0 of 3 tasks run (no node fits: node.labels.zone == a); the manager keeps on trying\n',
    );
  });

  test('a task that failed and is not restarted ends it with status 1', async () => {
    meshd.onApply = (spec) => {
      meshd.services = [aService({ spec })];
      meshd.tasks = [aTask({}, 'failed', 'exit status 3')];
    };
    const path = await file(
      'a.yaml',
      manifest().replace('replicas: 3', 'replicas: 1, restart_policy: {condition: none}'),
    );
    const { status, stderr } = await meshctl(['apply', path]);
    expect([status, stderr]).toEqual([
      1,
      'meshctl: web.1 failed and is not restarted (restart_policy none): exit status 3\n',
    ]);
  });

  test('follows events: tasks that start, one that dies and comes back', async () => {
    meshd.onApply = (spec) => {
      meshd.services = [aService({ spec: { ...spec, replicas: 1 } })];
    };
    const io = fakeIo({ environment: { MESHCTL_HOST: meshd.host } });
    const done = runMeshctl(['apply', await file('a.yaml', manifest())], io);
    const tell = (task: ReturnType<typeof aTask>) =>
      meshd.tell({ action: 'updated', object: { $case: 'task', value: task }, revision: 3 });
    await vi.waitUntil(() => io.stdout.includes('0 out of 1'));
    tell(aTask({ id: 'a' }, 'starting'));
    tell(aTask({ id: 'a', desired: 'shutdown' }, 'failed', 'killed by SIGKILL'));
    await vi.waitUntil(() => io.stdout.includes('web: killed by SIGKILL'));
    tell(aTask({ id: 'b', createdAt: 2000 }));
    expect(await done).toBe(0);
    expect(io.stdout).toMatch(/overall progress: 1 out of 1 tasks\nservice web converged\n$/);
  });

  test('Ctrl-C leaves the work to the manager', async () => {
    meshd.onApply = (spec) => {
      meshd.services = [aService({ spec })];
    };
    const io = fakeIo({ environment: { MESHCTL_HOST: meshd.host } });
    const done = runMeshctl(['apply', await file('a.yaml', manifest())], io);
    await vi.waitUntil(() => io.stdout.includes('overall'));
    io.interrupt();
    expect(await done).toBe(0);
    expect(io.stderr).toBe('meshctl: the operation continues in background; see `meshctl service ps web`\n');
  });

  test('a service removed by somebody else', async () => {
    meshd.onApply = (spec) => {
      meshd.services = [aService({ spec })];
    };
    const io = fakeIo({ environment: { MESHCTL_HOST: meshd.host } });
    const done = runMeshctl(['apply', await file('a.yaml', manifest())], io);
    await vi.waitUntil(() => io.stdout.includes('overall'));
    meshd.tell({ action: 'removed', object: { $case: 'service', value: meshd.services[0]! }, revision: 3 });
    expect(await done).toBe(1);
    expect(io.stderr).toMatch(/web was removed meanwhile/);
  });

  test('on a terminal the picture is drawn anew', async () => {
    const { stdout } = await meshctl(['apply', await file('a.yaml', manifest())], { terminal: true });
    expect(stdout).toContain(
      '\r\x1b[Joverall progress: 3 out of 3 tasks\n1/3: running on node2\n2/3: running on node2\n3/3: running on node2\n',
    );
  });
});

describe('listings', () => {
  beforeEach(() => {
    meshd.services = [
      aService({ running: 2 }),
      aService({ id: 's-api', name: 'api', spec: aSpec({ name: 'api', ports: [] }) }),
    ];
    meshd.tasks = [
      aTask({ id: 'old', createdAt: 500, desired: 'shutdown' }, 'failed', 'killed by SIGKILL'),
      aTask({ id: 'new' }),
    ];
  });

  test('service ls', async () => {
    expect(await meshctl(['service', 'ls'])).toEqual({
      status: 0,
      stderr: '',
      stdout: [
        'ID      NAME   MODE         REPLICAS   COMMAND           PORTS',
        's-api   api    replicated   3/3        node whoami.mjs',
        's-web   web    replicated   2/3        node whoami.mjs   *:8080->80/tcp',
        '',
      ].join('\n'),
    });
    expect((await meshctl(['service', 'ls', '-q'])).stdout).toBe('s-api\ns-web\n');
  });

  test('service ps shows the history of a slot below its task', async () => {
    expect((await meshctl(['service', 'ps', 'web'])).stdout.split('\n').slice(0, 3)).toEqual([
      'ID    NAME        COMMAND           NODE    DESIRED STATE   CURRENT STATE          ERROR               PORTS',
      'new   web.1       node whoami.mjs   node2   Running         Running 1 minute ago                       *:8080->80/tcp',
      'old    \\_ web.1   node whoami.mjs   node2   Shutdown        Failed 1 minute ago    killed by SIGKILL',
    ]);
    expect(meshd.calls).toMatchObject([{ name: 'listTasks', request: { service: 's-web', includeEnded: true } }]);
  });

  test('json of every listing: arrays, lower-case keys, id and name among them', async () => {
    const verbs = [
      ['service', 'ls'],
      ['service', 'ps', 'web'],
      ['service', 'inspect', 'web', 'api'],
      ['node', 'ls'],
      ['node', 'inspect', 'self'],
      ['status'],
      ['diff'],
      ['diff', 'node2'],
      ['plan'],
      ['version'],
    ];
    for (const verb of verbs) {
      const { status, stdout } = await meshctl([...verb, '--format', 'json']);
      expect(status, verb.join(' ')).toBe(0);
      const rows = JSON.parse(stdout) as Record<string, unknown>[];
      expect(Array.isArray(rows) && rows.length > 0, verb.join(' ')).toBe(true);
      for (const row of rows)
        expect([typeof row['id'], typeof row['name'], lowerCaseKeys(row)]).toEqual(['string', 'string', true]);
    }
    const [task] = JSON.parse((await meshctl(['service', 'ps', 'web', '--format=json'])).stdout);
    expect(task).toMatchObject({
      id: 'new',
      name: 'web.1',
      node: 'node2',
      state: 'running',
      desired: 'running',
      pid: 77,
      addresses: [{ address: '10.255.2.5' }],
      since: '1970-01-01T00:00:01.000Z',
    });
    const [status] = JSON.parse((await meshctl(['status', '--format=json'])).stdout);
    expect(status).toMatchObject({
      id: 'n1',
      assignmentrevision: 5,
      counters: { firewallruns: 4 },
      cluster: { revision: 7 },
    });
    const [node] = JSON.parse((await meshctl(['node', 'ls', '--format=json'])).stdout);
    expect(node).toMatchObject({ id: 'n1', name: 'node1', status: 'ready', self: true, managerstatus: 'leader' });
  });

  test('labels and variables keep their case in json', async () => {
    meshd.services = [aService({ spec: aSpec({ environment: { Path: '/' }, labels: { Team: 'net' } }) })];
    const [service] = JSON.parse((await meshctl(['service', 'inspect', 'web', '--format', 'json'])).stdout);
    expect(service.spec).toMatchObject({ environment: { Path: '/' }, labels: { Team: 'net' } });
  });

  test('by id, by the start of an id, and what is not there', async () => {
    expect((await meshctl(['service', 'inspect', 's-w'])).stdout).toMatch(/^id: +s-web\nname: +web\n/);
    const unclear = await meshctl(['service', 'inspect', 's-']);
    expect([unclear.status, unclear.stderr]).toEqual([
      1,
      'meshctl: more than one service has an id that starts with s-; give more of it\n',
    ]);
    const partly = await meshctl(['service', 'ps', '-q', 'wbe', 'web']);
    expect(partly).toEqual({
      status: 1,
      stdout: 'new\nold\n',
      stderr: 'meshctl: there is no service wbe; did you mean web?\n',
    });
  });

  test('service rm prints names; scale tells and follows', async () => {
    expect(await meshctl(['service', 'rm', 'api', 'web'])).toMatchObject({ status: 0, stdout: 'web\napi\n' });
    meshd.services = [aService()];
    const { status, stdout } = await meshctl(['service', 'scale', 'web=1']);
    expect([status, stdout]).toEqual([
      0,
      'service web (s-web) updated: replicas 3 → 1\noverall progress: 1 out of 1 tasks\nservice web converged\n',
    ]);
    expect(await meshctl(['service', 'scale', 'nope=1'])).toMatchObject({
      status: 1,
      stderr: 'meshctl: there is no service nope; see meshctl service ls\n',
    });
  });

  test('nodes: this one has a star, conditions are told, update and rm', async () => {
    meshd.nodes = [aNode({ number: 1 }), aNode({ id: 'n2', name: 'node2', state: 'down', conditions: ['no ip_vs'] })];
    expect((await meshctl(['node', 'ls'])).stdout).toBe(
      [
        'ID     HOSTNAME   STATUS   AVAILABILITY   MANAGER STATUS   VERSION',
        'n1 *   node1      Ready    Active         Leader           1.0.0',
        'n2     node2      Down     Active                          1.0.0',
        'node2: no ip_vs',
        '',
      ].join('\n'),
    );
    const update = [
      'node',
      'update',
      '--label-add',
      'a=1',
      '--label-add',
      'b',
      '--label-rm',
      'c',
      '--availability',
      'drain',
      'node2',
    ];
    expect(await meshctl(update)).toMatchObject({ status: 0, stdout: 'node2\n' });
    expect(meshd.calls.at(-1)!.request).toMatchObject({
      node: 'n2',
      setLabels: { a: '1', b: '' },
      removeLabels: ['c'],
      availability: 'drain',
    });
    expect((await meshctl(['node', 'update', 'node2'])).status).toBe(2);
    expect(await meshctl(['node', 'rm', '--force', 'node2'])).toMatchObject({ status: 0, stdout: 'node2\n' });
    expect(meshd.calls.at(-1)!.request).toEqual({ node: 'n2', force: true });
  });

  test('plan and diff in words', async () => {
    const path = await file('a.yaml', manifest());
    expect((await meshctl(['plan', path])).stdout).toBe(
      'service web would be created\nnode1: 1 step\n  ipset add mesh-pub-tcp 8080\nnode2: nothing to do\n',
    );
    expect((await meshctl(['diff'])).stdout).toBe('node1: nothing to do\n');
    expect((await meshctl(['diff', 'node2'])).stdout).toBe('node2: nothing to do\n');
    expect(await meshctl(['diff', 'node3'])).toMatchObject({
      status: 1,
      stderr: 'meshctl: there is no node node3; did you mean node1?\n',
    });
  });

  test('status in words', async () => {
    expect((await meshctl(['status'])).stdout).toBe(`node:        node1 (n1)
roles:       manager, agent
version:     1.0.0, up for 1 minute, pid 42
manager:     connected to node0 172.30.0.1:2377
assignment:  revision 5
kernel:      100 objects
kernel work: 5 operations (0 failed), 2 messages in 1 sends, 4 firewall runs, 6 observations, 7 repairs
cluster:     c1, revision 7: 1 services, 2/3 tasks, 2/2 nodes ready
`);
  });
});

describe('when meshd cannot be asked', () => {
  test('no socket: says where to look', async () => {
    const { status, stderr } = await meshctl(['service', 'ls', '--host', 'unix:///nowhere/meshd.sock']);
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(
        /^meshctl: cannot reach meshd at \/nowhere\/meshd\.sock: no such socket\. Is meshd running\? See `systemctl status meshd`/,
      ),
    ]);
  });

  test('a socket nobody listens on', async () => {
    const path = await file('dead.sock', '');
    const { status, stderr } = await meshctl(['service', 'ls', '--host', `unix://${path}`]);
    expect([status, stderr]).toEqual([1, expect.stringMatching(/connection refused.*systemctl status meshd/)]);
  });

  test('not an address', async () => {
    expect(await meshctl(['service', 'ls', '--host', 'node1:2377'])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/node1:2377 is not an address of meshd; give one like unix:/),
    });
  });

  test('a node that is no manager names one; status works there', async () => {
    const worker = await startFakeMeshd({ manager: false });
    try {
      for (const verb of [['service', 'ls'], ['node', 'ls'], ['service', 'scale', 'a=1'], ['plan']]) {
        expect(await meshctl([...verb, '--host', worker.host])).toMatchObject({
          status: 1,
          stdout: '',
          stderr: 'meshctl: this node (node1) is not a manager; run this on the manager (node0 172.30.0.1:2377)\n',
        });
      }
      expect((await meshctl(['status', '--host', worker.host])).status).toBe(0);
      expect((await meshctl(['diff', '--host', worker.host])).status).toBe(0);
    } finally {
      await worker.stop();
    }
  });

  test('version tells its own, with or without', async () => {
    expect(await meshctl(['version'])).toMatchObject({ status: 0, stdout: 'meshctl  0.0.0-test\nmeshd    1.0.0\n' });
    const alone = await meshctl(['version', '--host', 'unix:///nowhere']);
    expect([alone.status, alone.stdout]).toEqual([
      0,
      expect.stringMatching(/^meshctl {2}0\.0\.0-test\nmeshd {4}cannot reach/),
    ]);
  });
});

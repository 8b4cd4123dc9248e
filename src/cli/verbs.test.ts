// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the compose-spec look like that
import { beforeEach, describe, expect, test } from 'vitest';
import { makeNode, makeService, makeSpec, makeTask, startFakeMeshd } from './fake-meshd.test-data.ts';
import { manifest, setUp } from './test-setup.test-data.ts';

const cli = setUp();
const { meshctl, file } = cli;

describe('listings', () => {
  beforeEach(() => {
    cli.meshd.services = [
      makeService({ running: 2 }),
      makeService({ id: 's-api', name: 'api', spec: makeSpec({ name: 'api', ports: [] }) }),
    ];
    cli.meshd.tasks = [
      makeTask({ id: 'old', createdAt: 500, desired: 'shutdown' }, 'failed', 'killed by SIGKILL'),
      makeTask({ id: 'new' }),
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
    expect(cli.meshd.calls).toMatchObject([{ name: 'listTasks', request: { service: 's-web', includeEnded: true } }]);
  });

  test('JSON of every listing: an array of objects with id and name', async () => {
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
      for (const row of rows) expect([typeof row['id'], typeof row['name']]).toEqual(['string', 'string']);
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
      assignment_revision: 5,
      counters: { firewall_runs: 4 },
      cluster: { revision: 7 },
    });
    const [node] = JSON.parse((await meshctl(['node', 'ls', '--format=json'])).stdout);
    expect(node).toMatchObject({ id: 'n1', name: 'node1', status: 'ready', self: true, manager_status: 'leader' });
  });

  test('labels and variables keep their case in json', async () => {
    cli.meshd.services = [makeService({ spec: makeSpec({ environment: { Path: '/' }, labels: { Team: 'net' } }) })];
    const [service] = JSON.parse((await meshctl(['service', 'inspect', 'web', '--format', 'json'])).stdout);
    expect(service.spec).toMatchObject({ environment: { Path: '/' }, labels: { Team: 'net' } });
  });

  test('by id, id prefix and unknown name', async () => {
    expect((await meshctl(['service', 'inspect', '--pretty', 's-w'])).stdout).toMatch(/^ID: +s-web\nName: +web\n/);
    const unclear = await meshctl(['service', 'inspect', 's-']);
    expect([unclear.status, unclear.stderr]).toEqual([
      1,
      'meshctl: several services have an id that starts with s-; use more characters of it\n',
    ]);
    const partly = await meshctl(['service', 'ps', '-q', 'wbe', 'web']);
    expect(partly).toEqual({
      status: 1,
      stdout: 'new\nold\n',
      stderr: 'meshctl: there is no service wbe; did you mean web?\n',
    });
  });

  test('service rm prints names; scale reports progress', async () => {
    expect(await meshctl(['service', 'rm', 'api', 'web'])).toMatchObject({ status: 0, stdout: 'web\napi\n' });
    cli.meshd.services = [makeService()];
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

  test('nodes: ls with conditions, update, rm', async () => {
    cli.meshd.nodes = [
      makeNode({ number: 1 }),
      makeNode({ id: 'n2', name: 'node2', state: 'down', conditions: ['no ip_vs'] }),
    ];
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
    expect(cli.meshd.calls.at(-1)!.request).toMatchObject({
      node: 'n2',
      setLabels: { a: '1', b: '' },
      removeLabels: ['c'],
      availability: 'drain',
    });
    expect((await meshctl(['node', 'update', 'node2'])).status).toBe(2);
    expect(await meshctl(['node', 'rm', '--force', 'node2'])).toMatchObject({ status: 0, stdout: 'node2\n' });
    expect(cli.meshd.calls.at(-1)!.request).toEqual({ node: 'n2', force: true });
  });

  test('plan and diff in words', async () => {
    const path = await file('a.yaml', manifest());
    expect((await meshctl(['plan', path])).stdout).toBe(
      'service web would be created\nnode1: 1 step\n  ipset add mesh-pub-tcp 8080\nnode2: nothing to do\n',
    );
    expect(JSON.parse((await meshctl(['plan', '--format', 'json', path])).stdout)).toMatchObject([
      { kind: 'service', id: '', name: 'web', action: 'created', changes: [] },
      { kind: 'node', id: 'n1', name: 'node1', steps: ['ipset add mesh-pub-tcp 8080'] },
      { kind: 'node', id: 'n2', name: 'node2', steps: [] },
    ]);
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
kernel work: 5 operations (0 failed), 2 messages in 1 sends, 4 firewall runs, 6 scans, 7 repairs
cluster:     c1, revision 7: 1 services, 2/3 tasks, 2/2 nodes ready
`);
  });
});

describe('when meshd is not reachable', () => {
  test('no socket: says where to look', async () => {
    const { status, stderr } = await meshctl(['service', 'ls', '--host', 'unix:///nowhere/meshd.sock']);
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(
        /^meshctl: cannot reach meshd at \/nowhere\/meshd\.sock: no such socket\. A running meshd creates a removed socket again within seconds; otherwise see `systemctl status meshd`/,
      ),
    ]);
  });

  test('a socket without a listener', async () => {
    const path = await file('dead.sock', '');
    const { status, stderr } = await meshctl(['service', 'ls', '--host', `unix://${path}`]);
    expect([status, stderr]).toEqual([1, expect.stringMatching(/connection refused.*systemctl status meshd/)]);
  });

  test('not an address', async () => {
    expect(await meshctl(['service', 'ls', '--host', 'node1:2377'])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/node1:2377 is not an address of meshd; use one like unix:/),
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

  test('version with and without meshd', async () => {
    expect(await meshctl(['version'])).toMatchObject({ status: 0, stdout: 'meshctl  0.0.0-test\nmeshd    1.0.0\n' });
    const alone = await meshctl(['version', '--host', 'unix:///nowhere']);
    expect([alone.status, alone.stdout]).toEqual([
      0,
      expect.stringMatching(/^meshctl {2}0\.0\.0-test\nmeshd {4}cannot reach/),
    ]);
  });
});

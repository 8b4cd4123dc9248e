// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the compose-spec look like that
import { describe, expect, test, vi } from 'vitest';
import { makeService, makeTask } from '../fake-meshd.test-data.ts';
import { runMeshctl } from '../run.ts';
import { fakeIo, manifest, setUp } from '../test-setup.test-data.ts';

const cli = setUp();
const { meshctl, file } = cli;

async function* bytes(...texts: string[]): AsyncIterable<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

describe('apply', () => {
  test('creates, waits until all tasks run, prints each step once', async () => {
    const { status, stdout, stderr } = await meshctl(['apply', await file('a.yaml', manifest())]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toBe('service web (s-web) created\noverall progress: 3 out of 3 tasks\nservice web converged\n');
    expect(cli.meshd.calls[0]).toMatchObject({
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
    expect(cli.meshd.calls).toHaveLength(1);
    expect(cli.meshd.calls[0]!.request).toMatchObject({ services: [{ name: 'a' }, { name: 'b' }] });
  });

  test('--dry-run changes nothing and waits for nothing', async () => {
    const { status, stdout } = await meshctl(['apply', '--dry-run', await file('a.yaml', manifest())]);
    expect([status, stdout, cli.meshd.services]).toEqual([0, 'service web would be created\n', []]);
  });

  test('json: the services, without progress', async () => {
    const { stdout } = await meshctl(['apply', '--format', 'json', await file('a.yaml', manifest())]);
    expect(JSON.parse(stdout)).toEqual([
      { id: 's-web', name: 'web', action: 'created', changes: [], warnings: [], converged: true },
    ]);
    const detached = await meshctl(['apply', '-d', '--format', 'json', await file('a.yaml', manifest())]);
    expect(JSON.parse(detached.stdout)[0]).not.toHaveProperty('converged');
  });

  test('JSON has converged: false after a timeout and after Ctrl-C', async () => {
    cli.meshd.onApply = (spec) => {
      cli.meshd.services = [makeService({ spec, running: 0 })];
    };
    const path = await file('a.yaml', manifest());
    const late = await meshctl(['apply', '--timeout', '5s', '--format', 'json', path]);
    expect([late.status, JSON.parse(late.stdout)]).toMatchObject([1, [{ name: 'web', converged: false }]]);
    const io = fakeIo({ environment: { MESHCTL_HOST: cli.meshd.host } });
    const done = runMeshctl(['apply', '--format', 'json', path], io);
    await vi.waitUntil(() => {
      io.interrupt(); // again and again, for nothing is printed by which to know that it waits
      return io.stderr.includes('continues in the background');
    });
    expect(await done).toBe(0);
    expect(JSON.parse(io.stdout)).toMatchObject([{ name: 'web', converged: false }]);
  });

  test('config and plan: the sum of the errors', async () => {
    const bad = await file('bad.yaml', 'services: {b: {comand: x}}');
    expect((await meshctl(['config', bad])).stderr).toMatch(/\nmeshctl: 3 errors\n$/);
    expect((await meshctl(['plan', bad])).stderr).toMatch(/\nmeshctl: 3 errors; no changes were made\n$/);
  });

  test('an error in any file sends nothing: status 1, one line each, and a sum', async () => {
    const good = await file('good.yaml', manifest());
    const bad = await file('bad.yaml', 'services: {b: {comand: x}}');
    const { status, stdout, stderr } = await meshctl(['apply', good, bad]);
    expect([status, stdout, cli.meshd.calls]).toEqual([1, '', []]);
    expect(stderr.split('\n')).toEqual([
      expect.stringMatching(/bad\.yaml:1:12: services\.b: has no runtime/),
      expect.stringMatching(/bad\.yaml:1:12: services\.b: has no command/),
      expect.stringMatching(/bad\.yaml:1:16: services\.b\.comand: unknown key `comand`; did you mean `command`\?$/),
      'meshctl: 3 errors; no changes were made',
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
      /^meshctl: cannot read \/nowhere.yaml: no such file/,
    );
    expect((await meshctl(['apply', cli.directory])).stderr).toMatch(/is a directory/);
    const endless = (async function* () {
      for (;;) yield Buffer.alloc(65_536, '#');
    })();
    const fromPipe = await meshctl(['apply', '-'], { input: endless });
    expect([fromPipe.status, fromPipe.stderr]).toEqual([1, expect.stringMatching(/^stdin:1:1: is larger than/)]);
  });

  test('variables come from the environment of meshctl', async () => {
    const path = await file('a.yaml', manifest('web', ', working_dir: "${WHERE}"'));
    await meshctl(['apply', '-d', path], { environment: { MESHCTL_HOST: cli.meshd.host, WHERE: '/srv' } });
    expect(cli.meshd.calls[0]!.request).toMatchObject({ services: [{ workingDir: '/srv' }] });
    expect((await meshctl(['apply', '-d', path])).stderr).toMatch(/variable WHERE is not set/);
  });

  test('a task that cannot be placed: says why, gives up at the time limit with status 1', async () => {
    cli.meshd.onApply = (spec) => {
      cli.meshd.services = [makeService({ spec, running: 0 })];
      const pending = {
        state: 'pending' as const,
        message: 'no node fits: node.labels.zone == a',
        error: '',
        since: 1,
      };
      cli.meshd.tasks = [makeTask({ status: pending, nodeName: '' })];
    };
    const { status, stdout, stderr } = await meshctl(['apply', '--timeout', '10s', await file('a.yaml', manifest())]);
    expect(status).toBe(1);
    expect(stdout).toContain('overall progress: 0 out of 3 tasks\nweb: no node fits: node.labels.zone == a\n');
    expect(stderr).toBe(
      'meshctl: timeout after 10s: web: 0 of 3 tasks running (no node fits: node.labels.zone == a); the manager continues\n',
    );
  });

  test('a timeout while nodes have not published the ports names them', async () => {
    const published = cli.meshd.onApply;
    cli.meshd.onApply = (spec) => {
      published(spec);
      cli.meshd.services = cli.meshd.services.map((service) => ({ ...service, pending: 1, pendingNodes: ['node2'] }));
    };
    const { status, stdout, stderr } = await meshctl(['apply', '--timeout', '10s', await file('a.yaml', manifest())]);
    expect(status).toBe(1);
    expect(stdout).toContain('overall progress: 3 out of 3 tasks, waiting for node2 to publish the ports\n');
    expect(stdout).not.toContain('converged');
    expect(stderr).toBe(
      'meshctl: timeout after 10s: web: 3 of 3 tasks running, ports not yet published on node2 (see `meshctl node ls`); the manager continues\n',
    );
  });

  test('a task that failed and is not restarted ends it with status 1', async () => {
    cli.meshd.onApply = (spec) => {
      cli.meshd.services = [makeService({ spec })];
      cli.meshd.tasks = [makeTask({}, 'failed', 'exit status 3')];
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
    cli.meshd.onApply = (spec) => {
      cli.meshd.services = [makeService({ spec: { ...spec, replicas: 1 } })];
    };
    const io = fakeIo({ environment: { MESHCTL_HOST: cli.meshd.host } });
    const done = runMeshctl(['apply', await file('a.yaml', manifest())], io);
    const report = (task: ReturnType<typeof makeTask>) =>
      cli.meshd.sendEvent({ action: 'updated', object: { case: 'task', value: task }, revision: 3 });
    await vi.waitUntil(() => io.stdout.includes('0 out of 1'));
    report(makeTask({ id: 'a' }, 'starting'));
    report(makeTask({ id: 'a', desired: 'shutdown' }, 'failed', 'killed by SIGKILL'));
    await vi.waitUntil(() => io.stdout.includes('web: killed by SIGKILL'));
    report(makeTask({ id: 'b', createdAt: 2000 }));
    expect(await done).toBe(0);
    expect(io.stdout).toMatch(/overall progress: 1 out of 1 tasks\nservice web converged\n$/);
  });

  test('Ctrl-C exits with 0, the manager continues', async () => {
    cli.meshd.onApply = (spec) => {
      cli.meshd.services = [makeService({ spec })];
    };
    const io = fakeIo({ environment: { MESHCTL_HOST: cli.meshd.host } });
    const done = runMeshctl(['apply', await file('a.yaml', manifest())], io);
    await vi.waitUntil(() => io.stdout.includes('overall'));
    io.interrupt();
    expect(await done).toBe(0);
    expect(io.stderr).toBe('meshctl: the operation continues in the background; see `meshctl service ps web`\n');
  });

  test('a service that is removed while its tasks start', async () => {
    cli.meshd.onApply = (spec) => {
      cli.meshd.services = [makeService({ spec })];
    };
    const io = fakeIo({ environment: { MESHCTL_HOST: cli.meshd.host } });
    const done = runMeshctl(['apply', await file('a.yaml', manifest())], io);
    await vi.waitUntil(() => io.stdout.includes('overall'));
    cli.meshd.sendEvent({
      action: 'removed',
      object: { case: 'service', value: cli.meshd.services[0]! },
      revision: 3,
    });
    expect(await done).toBe(1);
    expect(io.stderr).toMatch(/web was removed/);
  });

  test('reconnects to a manager that restarts', async () => {
    cli.meshd.onApply = (spec) => {
      cli.meshd.services = [makeService({ spec: { ...spec, replicas: 1 } })];
    };
    const io = fakeIo({ environment: { MESHCTL_HOST: cli.meshd.host } });
    const done = runMeshctl(['apply', await file('a.yaml', manifest())], io);
    await vi.waitUntil(() => io.stdout.includes('0 out of 1'));
    cli.meshd.dropWatches();
    cli.meshd.tasks = [makeTask()];
    expect(await done).toBe(0);
    expect(io.stdout).toMatch(/1 out of 1 tasks\nservice web converged\n$/);
  });

  test('on a terminal the lines are redrawn', async () => {
    const { stdout } = await meshctl(['apply', await file('a.yaml', manifest())], { terminal: true });
    expect(stdout).toContain(
      '\r\x1b[Joverall progress: 3 out of 3 tasks\n1/3: running on node2\n2/3: running on node2\n3/3: running on node2\n',
    );
  });
});

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AssignedTask } from '../../model/assignment.ts';
import { HOST_NETNS, taskNetns } from '../../model/linux-names.ts';
import type { HealthCheck } from '../../model/spec.ts';
import { threeNodes } from '../../plan/assignments.test-data.ts';
import {
  assignment,
  eventually,
  extraTask,
  type FakeManager,
  fakeManager,
  listen,
  startNode,
  TASK,
  type TestNode,
} from '../agent.test-data.ts';

let manager: FakeManager;
let node: TestNode;

const CHECK: HealthCheck = {
  probe: { kind: 'tcp', port: 80 },
  interval: 30,
  timeout: 1_000,
  retries: 2,
  startPeriod: 0,
  startInterval: 10,
};

const withTask = (change: Partial<AssignedTask>) => {
  const whole = assignment();
  return { ...whole, tasks: whole.tasks.map((task) => (task.id === TASK ? { ...task, ...change } : task)) };
};

beforeEach(async () => {
  manager = await fakeManager();
});
afterEach(async () => {
  await node.close();
  await manager.stop();
});

const statuses = (taskId = TASK) =>
  manager
    .of('tasks')
    .flatMap(({ tasks }) => tasks)
    .filter((report) => report.taskId === taskId)
    .map((report) => report.status!);
const status = (expected: object, taskId = TASK) =>
  eventually(
    () =>
      statuses(taskId).find((one) =>
        Object.entries(expected).every(([key, value]) => (one as unknown as Record<string, unknown>)[key] === value),
      ),
    JSON.stringify(expected),
  );

describe('a task with a healthcheck', () => {
  it('is running first, and healthy when a probe succeeds', async () => {
    manager.assignment = withTask({ health: { ...CHECK, interval: 60_000 } });
    node = await startNode([manager.address]);
    node.tasks.health.set(TASK, { ok: false, output: 'HTTP 503' });
    await status({ state: 'starting', health: 'starting' });
    listen(node.kernel, TASK);
    await status({ state: 'running', health: 'starting', message: 'HTTP 503' });
    node.tasks.health.delete(TASK);
    expect(await status({ health: 'healthy' })).toMatchObject({ state: 'running', message: '' });
  });

  it('is reported unhealthy with the reason, is probed further and may recover', async () => {
    manager.assignment = withTask({ health: CHECK });
    node = await startNode([manager.address]);
    listen(node.kernel, TASK);
    await status({ health: 'healthy' });
    node.tasks.health.set(TASK, { ok: false, output: 'no answer within 1 s' });
    await status({ state: 'running', health: 'unhealthy', message: 'no answer within 1 s' });
    const reported = statuses().length;
    const probed = node.tasks.probed.length;
    await eventually(() => node.tasks.probed.length > probed + 3);
    expect(statuses()).toHaveLength(reported);
    node.tasks.health.delete(TASK);
    await eventually(() => statuses().at(-1)?.health === 'healthy');
    expect(node.tasks.stops).toEqual([]);
  });

  it('that never binds its ports and fails its probes is ended', async () => {
    manager.assignment = withTask({ health: CHECK });
    node = await startNode([manager.address]);
    node.tasks.health.set(TASK, { ok: false, output: 'connect ECONNREFUSED' });
    await eventually(() => node.tasks.stops.includes(TASK));
    node.tasks.end(TASK, { signal: 'SIGTERM' });
    await status({ state: 'failed', error: 'unhealthy: connect ECONNREFUSED' });
  });

  it('is running without its ports when a probe succeeds: the health check decides', async () => {
    manager.assignment = withTask({ health: CHECK });
    node = await startNode([manager.address]);
    expect(await status({ state: 'running' })).toMatchObject({ health: 'healthy', message: '' });
    await node.restart();
    await eventually(() => manager.of('hello').length > 1);
    expect(manager.of('hello').at(-1)!.tasks[0]!.status).toMatchObject({ state: 'running', health: 'healthy' });
  });

  it('that is healthy on 127.0.0.1 alone says that clients are refused, until it listens everywhere', async () => {
    manager.assignment = withTask({ health: CHECK });
    node = await startNode([manager.address]);
    listen(node.kernel, TASK, '127.0.0.1');
    expect(await status({ reason: 'PortUnreachable' })).toMatchObject({
      state: 'running',
      health: 'healthy',
      message: '80/tcp is only on 127.0.0.1; bind 0.0.0.0',
    });
    listen(node.kernel, TASK, '0.0.0.0');
    await eventually(() => statuses().at(-1)?.message === '');
  });

  it('is probed again as soon as another port is bound', async () => {
    const targets = [80, 81].map((port) => ({ protocol: 'tcp' as const, port }));
    manager.assignment = withTask({ targets, health: { ...CHECK, interval: 60_000, startInterval: 60_000 } });
    node = await startNode([manager.address]);
    node.tasks.health.set(TASK, { ok: false, output: 'not yet' });
    await status({ state: 'starting' });
    expect(node.tasks.probed).toEqual([]);
    listen(node.kernel, TASK);
    await eventually(() => node.tasks.probed.length === 1);
    node.tasks.health.delete(TASK);
    node.kernel.setListeners(
      taskNetns(TASK),
      targets.map(({ port }) => ({ protocol: 'tcp', port, address: '0.0.0.0' })),
    );
    await status({ state: 'running', health: 'healthy' });
    expect(node.tasks.probed).toHaveLength(2);
  });

  it('is not probed once it is being stopped', async () => {
    manager.assignment = withTask({ health: CHECK });
    node = await startNode([manager.address]);
    listen(node.kernel, TASK);
    await status({ health: 'healthy' });
    manager.delta({ tasks: [{ ...manager.assignment!.tasks[0]!, desired: 'shutdown' }] });
    await eventually(() => node.tasks.stops.includes(TASK));
    const probed = node.tasks.probed.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(node.tasks.probed).toHaveLength(probed);
    node.tasks.end(TASK, { code: 0 });
    expect((await status({ state: 'shutdown' })).health).toBeUndefined();
  });

  it('is kept in the first report after a restart of the agent, and probing continues', async () => {
    manager.assignment = withTask({ health: CHECK });
    node = await startNode([manager.address]);
    listen(node.kernel, TASK);
    await status({ health: 'healthy' });
    node.tasks.health.set(TASK, { ok: false, output: 'gone' });
    const sessions = manager.of('hello').length;
    await node.restart();
    const hello = await eventually(() => manager.of('hello')[sessions]);
    const [first] = hello.tasks;
    expect(['healthy', 'unhealthy']).toContain(first!.status!.health);
    expect(first!.status!.state).toBe('running');
    await eventually(() => statuses().at(-1)?.health === 'unhealthy');
  });

  it('follows a check that is changed, added or removed while it runs', async () => {
    manager.assignment = withTask({});
    node = await startNode([manager.address]);
    listen(node.kernel, TASK);
    expect((await status({ state: 'running' })).health).toBeUndefined();
    const [task] = manager.assignment.tasks;
    manager.delta({ tasks: [{ ...task!, health: CHECK }] });
    await status({ health: 'healthy' });
    manager.delta({ tasks: [task!] });
    await eventually(() => statuses().at(-1)?.health === undefined);
    const probed = node.tasks.probed.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(node.tasks.probed.length - probed).toBeLessThanOrEqual(1);
  });
});

describe('a task in a cluster of both families', () => {
  const bothFamilies = () => {
    const whole = threeNodes(['inet', 'inet6']);
    return { ...whole, tasks: whole.tasks.filter(({ id }) => id === TASK) };
  };
  const missing = [{ protocol: 'tcp', target: 80, family: 'inet6' }];

  it('that listens on one runs, and says which is missing until it is there', async () => {
    manager.assignment = bothFamilies();
    node = await startNode([manager.address]);
    listen(node.kernel, TASK, '0.0.0.0');
    expect(await status({ state: 'running' })).toMatchObject({
      missing,
      reason: 'FamilyMissing',
      message: '80/tcp accepts no IPv6 clients; bind :: as well',
    });
    listen(node.kernel, TASK, '0.0.0.0', '::');
    await eventually(() => statuses().at(-1)?.missing === undefined);
    expect(statuses().at(-1)).toMatchObject({ state: 'running', message: '' });
  });

  it('reports a missing family in the first report after a restart of the agent', async () => {
    manager.assignment = bothFamilies();
    node = await startNode([manager.address]);
    listen(node.kernel, TASK, '0.0.0.0');
    await status({ state: 'running' });
    await node.restart();
    await eventually(() => manager.of('hello').length > 1);
    expect(manager.of('hello').at(-1)!.tasks[0]!.status).toMatchObject({ state: 'running', missing });
  });

  it('is judged again when its ports change', async () => {
    manager.assignment = bothFamilies();
    node = await startNode([manager.address]);
    node.kernel.setListeners(taskNetns(TASK), [
      { protocol: 'tcp', port: 80, address: '::' },
      { protocol: 'tcp', port: 81, address: '::', v6only: true },
    ]);
    expect((await status({ state: 'running' })).missing).toBeUndefined();
    const [task] = manager.assignment.tasks;
    manager.delta({ tasks: [{ ...task!, targets: [...task!.targets, { protocol: 'tcp', port: 81 }] }] });
    expect((await status({ reason: 'FamilyMissing' })).missing).toEqual([
      { protocol: 'tcp', target: 81, family: 'inet' },
    ]);
  });
});

it('a task whose ports are bound on demand runs without them', async () => {
  manager.assignment = withTask({ targets: [{ protocol: 'tcp', port: 80, ready: false }] });
  node = await startNode([manager.address]);
  expect(await status({ state: 'running' })).toMatchObject({ message: '' });
});

describe('host mode ports without a number', () => {
  const pick = [{ protocol: 'tcp' as const, port: 80 }];

  it('are picked before the process starts, differ between tasks, and avoid what listens', async () => {
    manager.assignment = withTask({ pick });
    node = await startNode([manager.address]);
    const [first] = (await status({ state: 'starting' })).ports!;
    expect(first).toMatchObject({ protocol: 'tcp', target: 80 });
    listen(node.kernel, TASK);
    expect((await status({ state: 'running' })).ports).toEqual([first]);
    // The next in line is in use by a program of the node.
    const other = extraTask(7);
    const all = Array.from({ length: 65_536 - 49_152 }, (_, index) => 49_152 + index);
    const spare = all.filter((port) => port !== first!.published).slice(100, 101);
    const listening = all.filter((port) => port !== spare[0] && port !== first!.published);
    node.kernel.setListeners(
      HOST_NETNS,
      listening.map((port) => ({ protocol: 'tcp', port, address: '0.0.0.0' })),
    );
    manager.delta({ tasks: [{ ...other, pick }] });
    const picked = await eventually(() => statuses(other.id).find(({ ports }) => ports !== undefined)?.ports);
    expect(picked).toEqual([{ protocol: 'tcp', target: 80, published: spare[0] }]);
    const third = extraTask(8);
    manager.delta({ tasks: [{ ...third, pick }] });
    expect((await status({ state: 'failed' }, third.id)).error).toMatch(/no port of this node is free/);
  });

  it('stay the same over a restart, and follow changes of a running task', async () => {
    manager.assignment = withTask({ pick });
    node = await startNode([manager.address]);
    listen(node.kernel, TASK);
    const { ports } = await status({ state: 'running' });
    const [first] = ports!;
    await node.restart();
    await eventually(() => manager.of('hello').length > 1);
    const again = manager.of('hello').at(-1)!.tasks[0]!;
    expect(again.status!.ports).toMatchObject([{ published: first!.published }]);
    const [task] = manager.assignment.tasks;
    const more = { ...task!, pick: [...pick, { protocol: 'udp' as const, port: 53 }] };
    manager.delta({ tasks: [more] });
    const both = await eventually(() => statuses().find((one) => one.ports?.length === 2));
    expect(both.ports).toContainEqual(first);
    // While the agent is away the original ports are declared again: the other number is released.
    manager.assignment = withTask({ pick });
    manager.assignment.revision = 9;
    await node.restart();
    await eventually(() => statuses().at(-1)?.ports?.length === 1);
    expect(statuses().at(-1)!.ports).toEqual([first]);
    manager.delta({ tasks: [{ ...task!, pick: [] }] });
    await eventually(() => statuses().at(-1)?.ports === undefined);
    expect(node.kernel.state().has(`netns ${taskNetns(TASK)}`)).toBe(true);
  });
});

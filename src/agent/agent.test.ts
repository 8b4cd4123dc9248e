import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sameValue } from '../model/equality.ts';
import { keyOf, type Op } from '../model/kernel-state.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { LB_NETNS, networkNetns, portMark, taskNetns } from '../model/linux-names.ts';
import {
  assignment,
  desiredState,
  eventually,
  extraPort,
  extraTask,
  type FakeManager,
  fakeManager,
  listen,
  startNode,
  TASK,
  type TestNode,
} from './agent.test-data.ts';

let manager: FakeManager;
let node: TestNode;

beforeEach(async () => {
  manager = await fakeManager();
  manager.assignment = assignment();
});
afterEach(async () => {
  await node.close();
  await manager.stop();
});

const asMap = (objects: ReadonlyMap<string, KernelObject>) => Object.fromEntries([...objects].sort());
const holds = (desired: ReadonlyMap<string, KernelObject>) => sameValue(asMap(node.kernel.state()), asMap(desired));
const raised = (code: string) => node.agent.info().conditions.find((condition) => condition.code === code);
const acked = (revision: number) =>
  eventually(() => manager.of('ack').find((ack) => ack.revision === revision), `ack of ${revision}`);
const states = (taskId: string) =>
  manager
    .of('tasks')
    .flatMap(({ tasks }) => tasks)
    .filter((report) => report.taskId === taskId)
    .map((report) => report.status!);
const stateOf = (taskId: string, state: string) =>
  eventually(() => states(taskId).find((status) => status.state === state), `${taskId} ${state}`);

async function ready(): Promise<void> {
  node = await startNode([manager.address]);
  await acked(1);
  listen(node.kernel, TASK);
  await stateOf(TASK, 'running');
}

describe('an assignment', () => {
  it('becomes kernel objects, then tasks, then reports', async () => {
    node = await startNode([manager.address]);
    expect(await acked(1)).toEqual({ revision: 1, failures: [] });
    expect(holds(desiredState(assignment()))).toBe(true);
    await stateOf(TASK, 'starting');
    expect(node.tasks.started).toEqual([TASK]);
    expect(states(TASK).map(({ state }) => state)).not.toContain('running');
    listen(node.kernel, TASK, '127.0.0.1');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(states(TASK).map(({ state }) => state)).not.toContain('running');
    listen(node.kernel, TASK);
    expect(await stateOf(TASK, 'running')).toMatchObject({ pid: 1001, error: '' });
  });

  it('follows the routing rules of the host as they change', async () => {
    node = await startNode([manager.address]);
    await acked(1);
    const hostRules = () => [...node.kernel.state().values()].filter(({ kind }) => kind === 'host-rule');
    expect(hostRules()).toEqual([]);
    const source = '198.51.100.1/32';
    const rule = { family: 'inet', priority: 1_000, source, fwmark: 0, fwmask: 0, action: { lookup: 100 } } as const;
    node.kernel.setHostRouting({ rules: [rule], localSources: [source], strictReversePath: false });
    await eventually(() => hostRules().length === 2 || undefined, 'the rule to the lb, and the twin');
    // Another assignment, and another start, plan the same.
    manager.delta({ ports: [extraPort(9000)] });
    await acked(2);
    expect(hostRules()).toHaveLength(2);
    await node.restart();
    await eventually(() => node.agent.info().revision === 2 || undefined, 'revision 2');
    expect(hostRules()).toHaveLength(2);
    node.kernel.setHostRouting({ rules: [], localSources: [], strictReversePath: false });
    await eventually(() => hostRules().length === 0 || undefined, 'no rule');
  });

  it('starts no task before its netns is there', async () => {
    const order: string[] = [];
    node = await startNode([manager.address]);
    node.kernel.onStep(({ verb, object }) => order.push(`${verb} ${keyOf(object)}`));
    const start = node.tasks.started.push.bind(node.tasks.started);
    node.tasks.started.push = (id) => {
      order.push(`start ${id}`);
      return start(id);
    };
    await acked(1);
    const extra = extraTask(7);
    manager.delta({ tasks: [extra] });
    await acked(2);
    await eventually(() => order.includes(`start ${extra.id}`));
    const built = order.indexOf(`create netns ${taskNetns(extra.id)}`);
    expect(built).toBeGreaterThanOrEqual(0);
    expect(order.indexOf(`start ${extra.id}`)).toBeGreaterThan(
      order.findLastIndex((line) => line.includes(taskNetns(extra.id))),
    );
  });

  it('that changes costs what changes, without an observation of the kernel', async () => {
    await ready();
    const before = node.kernel.counters();
    manager.delta({ ports: [extraPort(9000)] });
    expect(await acked(2)).toEqual({ revision: 2, failures: [] });
    expect(holds(desiredState(manager.assignment!))).toBe(true);
    const after = node.kernel.counters();
    expect(after.observes - before.observes).toBe(0);
    // Service, real server, its mark, the host's set.
    expect(after.operations - before.operations).toBe(4);
    expect(after.messages - before.messages).toBeLessThanOrEqual(4);
    expect(after.firewallRuns).toBe(before.firewallRuns);
  });

  it('many changes in one go are all carried out and the last is acknowledged', async () => {
    await ready();
    for (let published = 9000; published < 9040; published++) manager.delta({ ports: [extraPort(published)] });
    for (let published = 9000; published < 9020; published++) manager.delta({ removedPorts: [`${published}/tcp`] });
    await acked(61);
    expect(holds(desiredState(manager.assignment!))).toBe(true);
  });

  it('a delta that does not fit is answered with a new session and its snapshot', async () => {
    await ready();
    const sessions = manager.sessions;
    manager.assignment = { ...manager.assignment!, revision: 5 };
    manager.delta({ ports: [extraPort(9000)] });
    await acked(6);
    expect(manager.sessions).toBeGreaterThan(sessions);
    expect(holds(desiredState(manager.assignment!))).toBe(true);
  });
});

describe('a task', () => {
  it('that ends by itself is reported with its reason, and its netns is removed', async () => {
    await ready();
    node.tasks.end(TASK, { signal: 'SIGKILL' });
    expect(await stateOf(TASK, 'failed')).toMatchObject({ error: 'killed by SIGKILL' });
    await eventually(() => !node.kernel.state().has(`netns ${taskNetns(TASK)}`), 'end of the netns');
    expect(holds(desiredState(assignment(), []))).toBe(true);
    expect(node.tasks.started).toEqual([TASK]);
  });

  it('that exits with 0 is complete, with 3 failed', async () => {
    await ready();
    const other = extraTask(7);
    manager.delta({ tasks: [{ ...other, targets: [] }] });
    await stateOf(other.id, 'running');
    node.tasks.end(TASK, { code: 0 });
    node.tasks.end(other.id, { code: 3 });
    expect(await stateOf(TASK, 'complete')).toMatchObject({ exitCode: 0, error: '' });
    expect(await stateOf(other.id, 'failed')).toMatchObject({ exitCode: 3, error: 'exit code 3' });
  });

  it('is stopped first and loses its paths only when its process has ended', async () => {
    await ready();
    manager.delta({ tasks: [{ ...manager.assignment!.tasks[0]!, desired: 'shutdown' }] });
    await eventually(() => node.tasks.stops.includes(TASK), 'stop');
    await acked(2);
    expect(node.kernel.state().has(`netns ${taskNetns(TASK)}`)).toBe(true);
    node.tasks.end(TASK, { code: 143 });
    expect(await stateOf(TASK, 'shutdown')).toMatchObject({ error: '' });
    await eventually(() => !node.kernel.state().has(`netns ${taskNetns(TASK)}`), 'end of the netns');
    expect(node.tasks.removed).toEqual([]);
    manager.delta({ removedTasks: [TASK] });
    await eventually(() => node.tasks.removed.includes(TASK), 'end of its files');
  });

  it('that is no longer assigned while it runs keeps its paths until it has ended', async () => {
    await ready();
    manager.delta({ removedTasks: [TASK] });
    await eventually(() => node.tasks.stops.includes(TASK), 'stop');
    await acked(2);
    expect(node.kernel.state().has(`netns ${taskNetns(TASK)}`)).toBe(true);
    node.tasks.end(TASK, { code: 0 });
    await eventually(() => node.tasks.removed.includes(TASK), 'end of its files');
    expect(node.kernel.state().has(`netns ${taskNetns(TASK)}`)).toBe(false);
  });
});

describe('a restarted agent', () => {
  it('changes nothing when nothing has changed, and reports its tasks at once', async () => {
    await ready();
    const before = node.kernel.counters().operations;
    await node.restart();
    await eventually(() => manager.of('ack').length >= 2, 'second ack');
    expect(node.kernel.counters().operations).toBe(before);
    const hello = manager.of('hello').at(-1)!;
    expect(hello.nodeId).toBe('node1');
    expect(hello.tasks).toMatchObject([{ taskId: TASK, status: { state: 'running', pid: 1001 } }]);
    expect(node.tasks.started).toEqual([TASK]);
    expect(node.tasks.stops).toEqual([]);
  });

  it('catches up with what changed while it was away', async () => {
    await ready();
    await node.agent.stop();
    node.tasks.end(TASK, { code: 1 });
    const service = desiredState(assignment()).get(`virtual-service ${LB_NETNS} inet ${portMark('tcp', 8080)}`)!;
    node.kernel.changeExternally({ verb: 'delete', object: service });
    manager.assignment = { ...assignment(), revision: 9, ports: [...assignment().ports, extraPort(9000)] };
    await node.restart();
    await acked(9);
    expect(manager.of('hello').at(-1)!.tasks).toMatchObject([
      { taskId: TASK, status: { state: 'failed', exitCode: 1 } },
    ]);
    expect(holds(desiredState(manager.assignment, []))).toBe(true);
    expect(node.tasks.started).toEqual([TASK]);
  });

  it('changes nothing while no manager is reachable, then uses the saved assignment', async () => {
    await ready();
    await node.agent.stop();
    await manager.stop();
    const before = node.kernel.counters().operations;
    const object = desiredState(assignment()).get(`virtual-service ${LB_NETNS} inet ${portMark('tcp', 8080)}`)!;
    node.kernel.changeExternally({ verb: 'delete', object });
    await node.restart();
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(node.kernel.counters().operations).toBe(before);
    expect(node.agent.info().conditions).toEqual([
      { code: 'ManagerUnreachable', params: { reason: expect.stringMatching(/connection refused/i) } },
    ]);
    await eventually(() => holds(desiredState(assignment())), 'repair from the disk');
    expect(node.tasks.live()).toEqual([TASK]);
  });
});

describe('the manager', () => {
  it('may stop: nothing changes; when it starts again, so does the session', async () => {
    await ready();
    const before = node.kernel.counters().operations;
    await manager.stop();
    await eventually(() => node.agent.info().manager === undefined, 'loss');
    node.tasks.end(TASK, { code: 5 });
    const again = await fakeManager(manager.address);
    again.assignment = { ...assignment(), revision: 4 };
    manager = again;
    await acked(4);
    expect(manager.of('hello')[0]!.tasks).toMatchObject([{ status: { state: 'failed', exitCode: 5 } }]);
    // Only the ended task's netns is removed.
    await eventually(() => holds(desiredState(assignment(), [])), 'end of the netns');
    expect(node.kernel.counters().operations - before).toBeLessThan(10);
  });

  it('of another cluster is rejected with a condition', async () => {
    await ready();
    manager.clusterId = 'cluster2';
    manager.assignment = { ...assignment(), revision: 7, tasks: [], ports: [] };
    await node.restart();
    await eventually(() => raised('ClusterMismatch')?.params['own_cluster'] === 'cluster1', 'condition');
    expect(node.kernel.state().has(`netns ${taskNetns(TASK)}`)).toBe(true);
    expect(node.agent.info().revision).toBe(0);
  });

  it('whose store was rolled back is followed', async () => {
    manager.assignment = { ...assignment(), revision: 50, ports: [...assignment().ports, extraPort(9000)] };
    node = await startNode([manager.address]);
    await acked(50);
    const address = manager.address;
    await manager.stop();
    manager = await fakeManager(address);
    manager.assignment = { ...assignment(), revision: 20 };
    await acked(20);
    expect(holds(desiredState(assignment()))).toBe(true);
  });

  it('gets heartbeats and the next address is tried when one is dead', async () => {
    node = await startNode(['127.0.0.1:1', manager.address]);
    await acked(1);
    await eventually(() => manager.of('heartbeat').length >= 2, 'heartbeats');
    expect(node.agent.info().manager).toBe(manager.address);
  });

  it('requests a plan and gets the operations from the observed kernel state', async () => {
    await ready();
    const operations = node.kernel.counters().operations;
    const value = { ...assignment(), ports: [...assignment().ports, extraPort(9000)] };
    manager.send({ case: 'probe', value: { probeId: 42, assignment: value } });
    const reply = await eventually(() => manager.received.find((message) => message.case === 'plan'), 'plan');
    expect(reply.probeId).toBe(42);
    expect(reply.value).toMatchObject({ nodeName: 'node1', error: '' });
    const { steps } = manager.of('plan')[0]!;
    expect(steps).toHaveLength(4);
    expect(steps.join('\n')).toContain(`ipvsadm -A -f ${portMark('tcp', 9000)}`);
    expect(node.kernel.counters().operations).toBe(operations);
    expect((await node.agent.diff()).steps).toEqual([]);
  });

  it('receives the number of connections of a draining server', async () => {
    await ready();
    const leaving = extraPort(9000, 0);
    node.kernel.setConnections(LB_NETNS, portMark('tcp', 9000), `${leaving.endpoints[0]!.address}:80`, 3);
    manager.delta({ ports: [leaving] });
    const report = await eventually(() => manager.of('connections').at(-1), 'report');
    expect(report.endpoints).toEqual([{ taskId: 't2x1', active: 3 }]);
    await acked(2);
    manager.delta({ removedPorts: ['9000/tcp'] });
    await acked(3);
    const count = manager.of('connections').length;
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(manager.of('connections').length).toBeLessThanOrEqual(count + 1);
  });
});

describe('a change by another process', () => {
  const remove = (key: string) => {
    const object = node.kernel.state().get(key)!;
    expect(node.kernel.changeExternally({ verb: 'delete', object } satisfies Op)).toBeUndefined();
  };

  it('that the kernel reports is repaired with everything inside it', async () => {
    await ready();
    remove(`link ${networkNetns('ingress')} vxlan0`);
    await eventually(() => holds(desiredState(assignment())), 'repair');
    expect(node.agent.info().counters.repairs).toBeGreaterThan(0);
    remove(`netns ${LB_NETNS}`);
    await eventually(() => holds(desiredState(assignment())), 'repair of a netns');
  });

  it('without a kernel event is found by the audit', async () => {
    await ready();
    remove(`virtual-service ${LB_NETNS} inet ${portMark('tcp', 8080)}`);
    await eventually(() => holds(desiredState(assignment())), 'repair');
  });

  it('again and again is repaired ever more slowly, and is a condition', async () => {
    await ready();
    const key = `fdb ${networkNetns('ingress')} vxlan0 02:6d:65:73:00:02`;
    node.kernel.onStep((op) => {
      if (op.verb === 'create' && keyOf(op.object) === key) {
        setTimeout(
          () => node.kernel.state().has(key) && node.kernel.changeExternally({ verb: 'delete', object: op.object }),
          1,
        );
      }
    });
    remove(key);
    await eventually(() => raised('DriftConflict'), 'condition');
    expect(raised('DriftConflict')?.params['objects']).toContain('02:6d:65:73:00:02');
    expect(node.agent.info().counters.repairs).toBeLessThan(20);
  });
});

it('a task whose netns is deleted fails, because it cannot be reached any more', async () => {
  await ready();
  const object = node.kernel.state().get(`netns ${taskNetns(TASK)}`)!;
  node.kernel.changeExternally({ verb: 'delete', object });
  await eventually(() => node.tasks.stops.includes(TASK), 'stop');
  node.tasks.end(TASK, { signal: 'SIGTERM' });
  expect(await stateOf(TASK, 'failed')).toMatchObject({ error: expect.stringContaining('namespace was deleted') });
});

describe('a kernel that refuses', () => {
  it('is retried until it accepts; meanwhile there is a condition', async () => {
    node = await startNode([manager.address]);
    await acked(1);
    node.kernel.setFaults({ seed: 7, refuse: 1 });
    manager.delta({ ports: [extraPort(9000)] });
    const ack = await acked(2);
    expect(ack.failures.length).toBeGreaterThan(0);
    expect(ack.failures[0]).toContain('EBUSY');
    expect(raised('KernelOperationFailed')?.params['error']).toContain('EBUSY');
    node.kernel.setFaults(undefined);
    await eventually(() => holds(desiredState(manager.assignment!)), 'retry');
    await eventually(() => manager.of('ack').at(-1)?.failures.length === 0, 'good ack');
    expect(node.agent.info().conditions).toEqual([]);
    expect(node.agent.info().counters.repairs).toBe(0);
  });

  it('at random, during a stream of changes, do not prevent the desired state', async () => {
    node = await startNode([manager.address]);
    await acked(1);
    node.kernel.setFaults({ seed: 3, refuse: 0.2, loseEvent: 0.3, overflow: 0.1 });
    for (let published = 9000; published < 9030; published++) {
      manager.delta({ ports: [extraPort(published)] });
      if (published % 3 === 0) manager.delta({ removedPorts: [`${published}/tcp`] });
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    node.kernel.setFaults(undefined);
    await eventually(() => holds(desiredState(manager.assignment!)), 'the desired state');
  });
});

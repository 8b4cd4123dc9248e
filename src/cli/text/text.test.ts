import { describe, expect, test } from 'vitest';
import type { TaskState } from '../../model/cluster.ts';
import { makeNode, makePort, makeService, makeSpec, makeTask } from '../fake-meshd.test-data.ts';
import { emptyWatchedState, progressLines, serviceProgress, type WatchedState } from '../progress.ts';
import { ageText } from './age.ts';
import { commandText, portsText } from './service.ts';
import { renderDetails, renderTable, truncate } from './table.ts';
import { sortTasks, taskProblem } from './task.ts';

test('ages', () => {
  const ages = [
    -5,
    0,
    999,
    1000,
    59_999,
    60_000,
    119_000,
    3_600_000,
    35 * 3_600_000,
    36 * 3_600_000,
    15 * 86_400_000,
    71 * 86_400_000,
    731 * 86_400_000,
  ];
  expect(ages.map(ageText)).toEqual([
    'less than a second',
    'less than a second',
    'less than a second',
    '1 second',
    '59 seconds',
    '1 minute',
    '1 minute',
    '1 hour',
    '35 hours',
    '1 day',
    '2 weeks',
    '2 months',
    '2 years',
  ]);
});

test('ports: runs are ranges, an automatic port that is not chosen yet says so', () => {
  const port = (published: number | undefined, target: number, protocol: 'tcp' | 'udp' = 'tcp') =>
    makePort({ protocol, target, published });
  expect(portsText([])).toBe('');
  expect(portsText([port(8081, 81), port(8080, 80), port(53, 53, 'udp'), port(8082, 90), port(undefined, 70)])).toBe(
    '*:(auto)->70/tcp, *:8080-8081->80-81/tcp, *:8082->90/tcp, *:53->53/udp',
  );
});

test('commands as one would type them', () => {
  expect(commandText(['sh', '-c', "echo 'a b'", ''])).toBe(`sh -c 'echo '\\''a b'\\''' ''`);
});

test('tables: columns, no control characters, letters counted as letters', () => {
  expect(
    renderTable(
      ['A', 'LONGER'],
      [
        ['x\x1b[31my\n', ''],
        ['äö', '1'],
      ],
    ),
  ).toBe('A         LONGER\nx [31my\näö        1\n');
  expect(truncate('äöü', 3)).toBe('äöü');
  expect(truncate('äöüx', 3)).toBe('äö…');
});

test('details', () => {
  expect(
    renderDetails({ id: 'a', none: undefined, labels: { b: 'c' }, empty: {}, list: [1, 2], items: [{ x: 1, y: 'z' }] }),
  ).toBe('id:     a\nlabels:\n  b: c\nlist:   1 2\nitems:\n  - x=1 y=z\n');
});

test('tasks in the order of their slots, the living before their history', () => {
  const tasks = [
    makeTask({ id: 'old', slot: 10, createdAt: 1 }, 'failed'),
    makeTask({ id: 'other', serviceName: 'api', slot: 11 }),
    makeTask({ id: 'older', slot: 10, createdAt: 0 }, 'failed'),
    makeTask({ id: 'live', slot: 10, createdAt: 0 }),
    makeTask({ id: 'first', slot: 2 }),
  ];
  expect(sortTasks(tasks).map(({ id }) => id)).toEqual(['other', 'first', 'live', 'old', 'older']);
});

describe('progress', () => {
  function seenOf(service: ReturnType<typeof makeService>, ...tasks: ReturnType<typeof makeTask>[]): WatchedState {
    const seen = emptyWatchedState();
    seen.isSynced = true;
    seen.services.set(service.id, service);
    for (const task of tasks) seen.tasks.set(task.id, task);
    for (const node of [makeNode({ id: 'n2', name: 'node2' }), makeNode({ id: 'n3', state: 'down' })])
      seen.nodes.set(node.id, node);
    return seen;
  }
  const two = makeService({ spec: makeSpec({ replicas: 2 }) });
  const task = (id: string, slot: number, given = {}, state: TaskState = 'running', error = '') =>
    makeTask({ id, slot, ...given }, state, error);

  test('done when just the desired tasks run', () => {
    expect(serviceProgress(seenOf(two, task('a', 1), task('b', 5)), 's-web')).toMatchObject({
      desired: 2,
      running: 2,
      stopping: 0,
      done: true,
    });
    expect(serviceProgress(seenOf(two, task('a', 1)), 's-web')).toMatchObject({ running: 1, done: false });
    expect(serviceProgress(seenOf(two, task('a', 1), task('b', 2, {}, 'starting')), 's-web')).toMatchObject({
      running: 1,
      done: false,
    });
  });

  test('not done before every ready node has published the ports, and the line names the nodes', () => {
    const waiting = makeService({ spec: makeSpec({ replicas: 2 }), pending: 12, pendingNodes: ['a', 'b', 'c', 'd'] });
    const pending = serviceProgress(seenOf(waiting, task('a', 1), task('b', 2)), 's-web');
    expect(pending).toMatchObject({ running: 2, done: false });
    expect(progressLines([pending], 200, 0)).toEqual([
      'overall progress: 2 out of 2 tasks, waiting for a, b, c and 9 more to publish the ports',
    ]);
    const starting = serviceProgress(seenOf(waiting, task('a', 1)), 's-web');
    expect(progressLines([starting], 200, 0)).toEqual(['overall progress: 1 out of 2 tasks']);
  });

  test('a node that has just connected holds nothing yet; a service without ports does not wait for it', () => {
    const seen = seenOf(two, task('a', 1), task('b', 2));
    seen.nodes.set('n4', makeNode({ id: 'n4', name: 'node4', acknowledgedRevision: 0 }));
    const pending = serviceProgress(seen, 's-web');
    expect(pending).toMatchObject({ done: false, publishing: { count: 1, names: ['node4'] } });
    seen.services.set('s-web', makeService({ spec: makeSpec({ replicas: 2, ports: [] }) }));
    expect(serviceProgress(seen, 's-web').done).toBe(true);
    seen.services.set('s-web', two);
    seen.nodes.set('n4', makeNode({ id: 'n4', name: 'node4', acknowledgedRevision: 0, state: 'down' }));
    expect(serviceProgress(seen, 's-web').done).toBe(true);
  });

  test('not done before the initial state is complete', () => {
    const seen = seenOf(two, task('a', 1), task('b', 2));
    seen.isSynced = false;
    expect(serviceProgress(seen, 's-web').done).toBe(false);
  });

  test('one too many is not done yet: the manager has not decided who goes', () => {
    expect(serviceProgress(seenOf(two, task('a', 1), task('b', 2), task('c', 3)), 's-web').done).toBe(false);
  });

  test('tasks that leave are waited for, but not those of a node that is down', () => {
    const leaving = { desired: 'drain' };
    expect(serviceProgress(seenOf(two, task('a', 1), task('b', 2), task('c', 3, leaving)), 's-web')).toMatchObject({
      stopping: 1,
      done: false,
    });
    expect(
      serviceProgress(seenOf(two, task('a', 1), task('b', 2), task('c', 3, { ...leaving, nodeId: 'n3' })), 's-web')
        .done,
    ).toBe(true);
    expect(
      serviceProgress(seenOf(two, task('a', 1), task('b', 2), task('c', 3, leaving, 'shutdown')), 's-web').done,
    ).toBe(true);
  });

  test('a slot shows its living task, else the newest dead one with its reason', () => {
    const dead = task('a', 1, { createdAt: 5 }, 'failed', 'exit status 3');
    const older = task('o', 1, { createdAt: 2 }, 'failed', 'exit status 2');
    expect(serviceProgress(seenOf(two, older, dead, task('b', 2)), 's-web').lines.map(({ text }) => text)).toEqual([
      '1/2: failed on node2: exit status 3',
      '2/2: running on node2',
    ]);
    const again = task('n', 1, { createdAt: 9, nodeName: '' }, 'new');
    expect(serviceProgress(seenOf(two, dead, again), 's-web').lines.map(({ text }) => text)).toEqual([
      '1/2: new, previous task: exit status 3',
      '2/2: new',
    ]);
  });

  test('a task waiting for its restart keeps the reason of the newest one before it, of the same generation', () => {
    const dead = task('a', 1, { createdAt: 5 }, 'failed', 'exit status 3');
    const older = task('o', 1, { createdAt: 2 }, 'failed', 'exit status 2');
    const again = task('n', 1, { createdAt: 9, nodeName: '' }, 'new');
    const troubles = (seen: WatchedState) => serviceProgress(seen, 's-web').lines.map(({ trouble }) => trouble);
    expect(troubles(seenOf(two, older, again, dead))).toEqual(['exit status 3', '']);
    expect(troubles(seenOf({ ...two, taskGeneration: 2 }, dead, { ...again, generation: 2 }))).toEqual(['', '']);
  });

  test('a task that does not get ready says why; what every start says is no trouble', () => {
    const starting = (message: string, reason = 'PortsNotBound') =>
      makeTask({ status: { state: 'starting', message, error: '', since: 1, pid: 7, reason } });
    const lines = (message: string, reason?: string) =>
      serviceProgress(seenOf(two, starting(message, reason)), 's-web').lines[0];
    const loopback = 'the process runs but 80/tcp is only on 127.0.0.1:80; bind 0.0.0.0';
    expect(taskProblem(starting(loopback))).toBe(loopback);
    expect(lines(loopback)).toMatchObject({ text: `1/2: starting on node2: ${loopback}`, trouble: loopback });
    expect(lines('waiting for 80/tcp', 'WaitingForPorts')).toMatchObject({
      text: '1/2: starting on node2: waiting for 80/tcp',
      reason: 'waiting for 80/tcp',
      trouble: '',
    });
    expect(lines('waiting for its network: ENOMEM', 'WaitingForNetwork')?.trouble).toBe(
      'waiting for its network: ENOMEM',
    );
  });

  test('a command that went into the background says so, although it is complete', () => {
    const ended = (reason: string) =>
      makeTask({ status: { state: 'complete', message: 'exit code 0, but left …', error: '', since: 1, reason } });
    expect(taskProblem(ended('Daemonized'))).toBe('exit code 0, but left …');
    expect(taskProblem(ended('Exited'))).toBe('');
  });

  test('tasks of an older generation do not count: they are about to be replaced', () => {
    const next = { ...two, taskGeneration: 2 };
    const old = [task('a', 1), task('b', 2)];
    expect(serviceProgress(seenOf(next, ...old), 's-web')).toMatchObject({ running: 0, done: false });
    const half = serviceProgress(seenOf(next, ...old, task('c', 1, { generation: 2 }, 'starting')), 's-web');
    expect([half.running, half.done, half.lines.map(({ text }) => text)]).toEqual([
      0,
      false,
      ['1/2: starting on node2', '2/2: running on node2, to be replaced'],
    ]);
    const made = [task('c', 1, { generation: 2 }), task('d', 2, { generation: 2 })];
    expect(serviceProgress(seenOf(next, ...old, ...made), 's-web')).toMatchObject({ running: 2, done: false });
    expect(serviceProgress(seenOf(next, ...made), 's-web')).toMatchObject({ running: 2, done: true });
  });

  test('none desired, global, and tasks that may end', () => {
    expect(serviceProgress(seenOf(makeService({ spec: makeSpec({ replicas: 0 }) })), 's-web')).toMatchObject({
      desired: 0,
      lines: [],
      done: true,
    });
    const global = makeService({ spec: makeSpec({ mode: 'global', replicas: 1 }), desired: 2 });
    expect(serviceProgress(seenOf(global, task('a', 1)), 's-web')).toMatchObject({
      desired: 2,
      running: 1,
      done: false,
    });
    expect(serviceProgress(seenOf(global, task('a', 1), task('b', 7)), 's-web').done).toBe(true);
    const job = makeService({
      spec: makeSpec({ replicas: 1, restart: { condition: 'on-failure', maxAttempts: 0, window: 0 } }),
    });
    expect(serviceProgress(seenOf(job, task('a', 1, {}, 'complete')), 's-web')).toMatchObject({
      running: 1,
      done: true,
    });
    expect(
      serviceProgress(seenOf(makeService({ spec: makeSpec({ replicas: 1 }) }), task('a', 1, {}, 'complete')), 's-web')
        .done,
    ).toBe(false);
  });

  test('lines: names when there are several, only the unfinished when there are many, cut to the width', () => {
    const web = serviceProgress(seenOf(two, task('a', 1), task('b', 2, {}, 'failed', 'x'.repeat(100))), 's-web');
    expect(progressLines([web], 40, 20)).toEqual([
      'overall progress: 1 out of 2 tasks',
      '1/2: running on node2',
      `2/2: failed on node2: ${'x'.repeat(16)}…`,
    ]);
    expect(progressLines([web, { ...web, name: 'api', stopping: 3 }], 60, 3)).toEqual([
      'overall progress: 2 out of 4 tasks, 3 stopping',
      `web 2/2: failed on node2: ${'x'.repeat(32)}…`,
      `api 2/2: failed on node2: ${'x'.repeat(32)}…`,
    ]);
    expect(progressLines([web], 80, 0)).toEqual(['overall progress: 1 out of 2 tasks']);
  });
});

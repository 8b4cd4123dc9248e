import { beforeEach, expect, test } from 'vitest';
import type { ChangeRecord } from '../../model/change-record.ts';
import { makeNode } from '../fake-meshd.test-data.ts';
import { setUp } from '../test-setup.test-data.ts';

const cli = setUp();
const { meshctl } = cli;

const change = (at: number, more: Partial<ChangeRecord>): ChangeRecord => ({
  at,
  took: 1.5,
  why: 'assignment',
  revision: 7,
  wrong: [],
  by: [],
  services: [],
  steps: ['ipset add mesh-pub-tcp 8080'],
  count: 1,
  failures: [],
  ...more,
});
const answer = (node: string, changes: ChangeRecord[]) => ({
  nodeId: node,
  nodeName: node,
  body: Buffer.from(JSON.stringify({ changes })),
  error: '',
});

beforeEach(() => {
  cli.meshd.nodes = ['node1', 'node2'].map((id) => makeNode({ id, name: id }));
  cli.meshd.answers = [
    answer('node1', [change(1_000, { why: 'start' }), change(3_000, { failures: ['EBUSY'] })]),
    answer('node2', [
      change(2_000, {
        why: 'repair',
        by: ['ip (pid 47)'],
        wrong: ['fdb a: missing'],
        steps: Array.from({ length: 9 }, (_, index) => `step ${index}`),
        count: 9,
      }),
    ]),
  ];
});

test('history of all nodes, sorted by time, with reasons and steps', async () => {
  const { status, stdout, stderr } = await meshctl(['history', '--since', '10m', '--service', 'web']);
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout.split('\n')).toEqual([
    'TIME                      NODE    WHY                              TOOK     STEPS   WHAT',
    '1970-01-01 00:00:01.000   node1   start, revision 7                1.5 ms   1       ipset add mesh-pub-tcp 8080',
    '1970-01-01 00:00:02.000   node2   repair, changed by ip (pid 47)   1.5 ms   9       wrong: fdb a: missing',
    ...[0, 1, 2, 3].map((step) => `${' '.repeat(84)}step ${step}`),
    `${' '.repeat(84)}… 5 more lines`,
    '1970-01-01 00:00:03.000   node1   revision 7                       1.5 ms   1       ipset add mesh-pub-tcp 8080',
    `${' '.repeat(84)}failed: EBUSY`,
    '',
  ]);
  expect(cli.meshd.calls.at(-1)!.request).toMatchObject({
    nodes: [],
    kind: 'history',
    argument: '{"limit":50,"age":600000,"service":"web"}',
  });
});

test('history as JSON, the newest n changes of one node', async () => {
  const { stdout } = await meshctl(['history', 'node2', '--limit', '2', '--format', 'json']);
  expect(cli.meshd.calls.at(-1)!.request).toMatchObject({ nodes: ['node2'], argument: '{"limit":2}' });
  const rows = JSON.parse(stdout);
  expect(rows.map(({ at }: { at: string }) => at)).toEqual(['1970-01-01T00:00:02.000Z', '1970-01-01T00:00:03.000Z']);
  expect(rows[0]).toMatchObject({ id: 'node2', name: 'node2', why: 'repair', by: ['ip (pid 47)'], count: 9 });
});

test('history shows the others when one node does not answer: status 1', async () => {
  cli.meshd.answers[1] = {
    nodeId: 'node2',
    nodeName: 'node2',
    body: new Uint8Array(),
    error: 'node2 is not connected',
  };
  const { status, stdout, stderr } = await meshctl(['history']);
  expect(status).toBe(1);
  expect(stderr).toBe('meshctl: node2 did not answer: node2 is not connected\n');
  expect(stdout).toContain('start, revision 7');
});

test.each([1e20, -1e20])('an answer with an impossible time (%d) is an error of that node', async (at) => {
  cli.meshd.answers = [answer('node1', [change(at, {})]), answer('node2', [change(1, {})])];
  for (const format of ['table', 'json']) {
    const { status, stdout, stderr } = await meshctl(['--format', format, 'history']);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^meshctl: node1 did not answer: its answer cannot be read \(changes\.0\.at: /);
    expect(stdout).toContain('node2');
  }
});

test('history rejects invalid numbers and times: status 2', async () => {
  expect((await meshctl(['history', '--limit', '0'])).status).toBe(2);
  expect((await meshctl(['history', '--since', 'yesterday'])).status).toBe(2);
  expect((await meshctl(['history', 'node9'])).status).toBe(1);
});

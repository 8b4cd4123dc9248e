import { expect, test } from 'vitest';
import { makeTask } from '../fake-meshd.test-data.ts';
import { setUp } from '../test-setup.test-data.ts';
import { parseTarget } from './trace.ts';

const context = setUp();

const hop = { node: 'node1', netns: 'host', object: 'jump', effect: 'DNAT to 10.252.1.2', verdict: 'pass' as const };

test('the path to the task and back is printed as the manager describes it', async () => {
  const task = makeTask({ id: 'aaaaaaaaaaaa', nodeId: 'node2', nodeName: 'node2' });
  const server = { address: '10.252.2.5', port: 80, weight: 1 };
  context.meshd.trace = {
    client: '198.51.100.7',
    destination: '192.0.2.1',
    nodes: [
      { nodeId: 'n1', nodeName: 'node1', revision: 7, error: '' },
      { nodeId: 'n2', nodeName: 'node2', revision: 0, error: 'node2 is not connected' },
    ],
    outcome: 'lost',
    reason: 'node2: no route',
    hops: [hop],
    paths: [
      {
        ...server,
        taskId: task.id,
        task,
        outcome: 'lost',
        reason: 'node2: no route',
        hops: [{ ...hop, node: 'node2', effect: 'no route\u001b[31m', verdict: 'lost' }],
      },
    ],
  };
  const { status, stdout, stderr } = await context.meshctl(['trace', '198.51.100.7', 'node1:8080']);
  expect([status, stderr]).toEqual([1, 'meshctl: node2 did not answer: node2 is not connected\n']);
  expect(stdout).toMatch(/^198\.51\.100\.7 to 192\.0\.2\.1, port 8080\/tcp \(kernels at revision: node1 7\)\n/);
  expect(stdout).toContain('\nreal server 10.252.2.5, port 80: web.1 on node2, running: lost\n');
  expect(stdout).toMatch(/LOST: no route \[31m/);
  expect(stdout).toMatch(/\nlost: node2: no route\n$/);
  expect(context.meshd.calls.at(-1)).toEqual({
    name: 'trace',
    request: { client: '198.51.100.7', node: 'node1', protocol: 'tcp', port: 8080 },
  });
  const json = JSON.parse((await context.meshctl(['trace', 'localhost', 'node1:8080', '--format', 'json'])).stdout);
  expect(json).toMatchObject([
    { outcome: 'lost', hops: [hop], paths: [{ ...server, task: 'web.1 on node2, running', outcome: 'lost' }] },
  ]);
});

test('exit status 0 when the packet is answered', async () => {
  const { status, stdout } = await context.meshctl(['trace', '198.51.100.7', '192.0.2.1:53/udp']);
  expect(status).toBe(0);
  expect(stdout).toMatch(/\nanswered\n$/);
});

test('invalid destinations', async () => {
  expect(parseTarget('[2001:db8::1]:53/udp')).toEqual({ node: '2001:db8::1', port: 53, protocol: 'udp' });
  for (const word of ['node1', 'node1:70000', 'node1:0', 'node1:80/icmp']) {
    const { status, stderr } = await context.meshctl(['trace', '198.51.100.7', word]);
    expect([status, stderr]).toEqual([2, expect.stringMatching(/is not NODE:PORT/)]);
  }
});

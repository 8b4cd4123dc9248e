import { afterEach, beforeEach, expect, test } from 'vitest';
import { CAPABILITIES, emptyAssignment, endpoint, peer, port, task } from '../../plan/assignments.test-data.ts';
import { plan } from '../../plan/plan.ts';
import type { NodeAnswer } from '../../rpc/gen/mesh.ts';
import { type FakeMeshd, makeNode, makeTask, startFakeMeshd } from '../fake-meshd.test-data.ts';
import { runMeshctl } from '../run.ts';
import { fakeIo } from '../test-setup.test-data.ts';
import { parseTarget } from './trace.ts';

let meshd: FakeMeshd;
beforeEach(async () => {
  meshd = await startFakeMeshd();
  meshd.nodes = [1, 2].map((number) =>
    makeNode({ id: `node${number}`, name: `node${number}`, number, underlay: `192.0.2.${number}` }),
  );
  meshd.tasks = [makeTask({ id: 'aaaaaaaaaaaa', nodeId: 'node2', nodeName: 'node2' })];
  meshd.answers = [1, 2].map(kernelReply);
});
afterEach(() => meshd.stop());

async function meshctl(...args: string[]) {
  const io = fakeIo({ environment: { MESHCTL_HOST: meshd.host } });
  const status = await runMeshctl(args, io);
  return { status, stdout: io.stdout, stderr: io.stderr };
}

/** Two nodes, one task of 8080/tcp on node2. */
function kernelReply(number: number): NodeAnswer {
  const assignment = emptyAssignment(number, ['inet']);
  assignment.peers = [peer(3 - number, ['inet'])];
  assignment.tasks = number === 2 ? [task('aaaaaaaaaaaa', 2, 1, ['inet'])] : [];
  assignment.ports = [port('tcp', 8080, [endpoint(2, 1, 'inet', 80)])];
  const addresses = [`192.0.2.${number}`, '127.0.0.1', '::1'];
  const answer = { revision: 7, addresses, objects: [...plan(assignment, CAPABILITIES).values()] };
  return { nodeId: `node${number}`, nodeName: `node${number}`, body: Buffer.from(JSON.stringify(answer)), error: '' };
}

test('the way to the task and back, in words', async () => {
  const { status, stdout, stderr } = await meshctl('trace', '198.51.100.7', 'node1:8080');
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(
    /^198\.51\.100\.7 to 192\.0\.2\.1, port 8080\/tcp \(kernels at revision: node1 7, node2 7\)\n/,
  );
  expect(stdout).toContain('\nreal server 10.252.2.5, port 80: web.1 on node2, running: answered\n');
  expect(stdout).toMatch(/\nanswered\n$/);
  expect(meshd.calls.at(-1)!.request).toMatchObject({
    nodes: ['node1', 'node2'],
    kind: 'kernel',
    argument: '{"protocol":"tcp","published":8080}',
  });
});

test('a port that is not published: status 1 and why', async () => {
  const { status, stdout } = await meshctl('trace', 'node2', '192.0.2.1:9999/udp');
  expect(status).toBe(1);
  expect(stdout).toMatch(/REFUSED: the mesh does not take 9999\/udp there/);
  const json = JSON.parse((await meshctl('trace', 'localhost', 'node1:9999', '--format', 'json')).stdout);
  expect(json).toMatchObject([{ outcome: 'refused', paths: [] }]);
});

test('a node that does not answer is reported, and packets to it are lost', async () => {
  meshd.answers[1] = { ...meshd.answers[1]!, body: new Uint8Array(), error: 'node2 is not connected' };
  const { status, stdout, stderr } = await meshctl('trace', '198.51.100.7', 'node1:8080');
  expect(status).toBe(1);
  expect(stderr).toBe('meshctl: node2 did not answer: node2 is not connected\n');
  expect(stdout).toMatch(/LOST: no node that (could be asked|answered) has this address/);
  expect((await meshctl('trace', '198.51.100.7', 'node2:8080')).stderr).toMatch(/node2 did not report/);
});

test('invalid arguments', async () => {
  expect(parseTarget('[2001:db8::1]:53/udp')).toEqual({ node: '2001:db8::1', port: 53, protocol: 'udp' });
  expect((await meshctl('trace', '198.51.100.7', 'node1')).status).toBe(2);
  expect((await meshctl('trace', '198.51.100.7', 'node1:70000')).stderr).toMatch(/is not NODE:PORT/);
  expect((await meshctl('trace', 'node9', 'node1:8080')).stderr).toMatch(/there is no node node9/);
  expect((await meshctl('trace', '198.51.100.7', '192.0.2.99:8080')).stderr).toMatch(/no node has the address/);
  expect((await meshctl('trace', '2001:db8::7', 'node1:8080')).stderr).toMatch(/has no inet6 address/);
});

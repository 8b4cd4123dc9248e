// One damage of each kind on one node: the duration of the repair according to the node's history, and whether the history
// reports the damage and the process that caused it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChangeRecord } from '../../src/model/change-record.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import { renderOp } from '../../src/model/render.ts';
import { allKernelObjects, nodeConditions, nodeInfo, pendingSteps, recentChanges } from '../torture/queries.ts';
import { runOn, stdoutOf, waitFor } from './harness.ts';
import { applyWeb } from './shared.ts';

const NODE = 'node2';
const sh = (command: string) => stdoutOf(runOn(NODE, 'sh', '-c', command));
const waitUntilQuiet = () =>
  waitFor('node2 has nothing to do', 60_000, async () => (await pendingSteps(NODE)).length === 0);

type Kind = KernelObject['kind'];
const lb = (object: KernelObject) => object.netns === 'mesh-lb';
const router = (object: KernelObject) => object.netns === 'mesh-net-ingress';

/** Kind, object, and whether the kernel reports the change or only an audit finds it. */
const KINDS: [Kind, (object: KernelObject) => boolean, 'event' | 'audit'][] = [
  ['veth', ({ netns }) => netns === 'host', 'event'],
  ['vxlan', router, 'event'],
  ['address', lb, 'event'],
  ['neighbour', router, 'event'],
  ['fdb', router, 'event'],
  ['route', router, 'event'],
  ['rule', router, 'event'],
  ['chain', lb, 'event'],
  ['jump', ({ netns }) => netns === 'host', 'event'],
  ['set-member', ({ netns }) => netns === 'host', 'audit'],
  ['virtual-service', lb, 'audit'],
  ['real-server', lb, 'audit'],
];

/** Repairs a damage and returns the duration and the history entry. */
async function measureRepair(command: string): Promise<{ ms: number; change: ChangeRecord }> {
  // The time before the damage: the repair may be over before another program has started.
  // A chain that is the target of a jump is emptied but not deleted: the command fails.
  const began = Number((await sh(`date +%s%3N; ${command}; true`)).split('\n')[0]);
  const change = await waitFor(`a repair after ${command}`, 60_000, async () =>
    (await recentChanges(60_000)).get(NODE)!.find(({ at, why, count }) => why === 'repair' && count > 0 && at >= began),
  );
  await waitUntilQuiet();
  return { ms: Math.round(change.at + change.took - began), change };
}

test('every kind of object deleted by hand is repaired; the history contains the damage and the duration', async () => {
  await applyWeb({ replicas: 3 });
  await waitUntilQuiet();
  for (const [kind, which, how] of KINDS) {
    const objects = (await allKernelObjects()).get(NODE)!;
    const object = objects.find((one) => one.kind === kind && which(one));
    assert.ok(object, `no ${kind} on ${NODE}`);
    const { ms, change } = await measureRepair(renderOp({ verb: 'delete', object }).join('; '));
    console.log(
      `# ${kind} (${how}): repaired after ${ms} ms; ${change.wrong[0]}${change.by.map((by) => `, by ${by}`)}`,
    );
    assert.match(change.wrong.join('\n'), /missing|unexpected|→|lacks/);
    assert.deepEqual(change.failures, []);
  }
});

test('sysctls whose changes the kernel reports, and others', async () => {
  for (const name of ['net.ipv4.ip_forward', 'net.ipv4.conf.all.rp_filter', 'net.ipv4.vs.expire_nodest_conn']) {
    const value = (await sh(`ip netns exec mesh-lb sysctl -n ${name}`)).trim();
    const { ms, change } = await measureRepair(`ip netns exec mesh-lb sysctl -qw ${name}=${value === '0' ? 1 : 0}`);
    console.log(`# ${name}: repaired after ${ms} ms; ${change.wrong[0]}`);
    assert.equal((await sh(`ip netns exec mesh-lb sysctl -n ${name}`)).trim(), value);
  }
});

test('a program that keeps deleting an object: rate-limited repairs, and a condition until it stops', async () => {
  const before = (await nodeInfo(NODE)).counters!.operations;
  const peer = (await allKernelObjects()).get(NODE)!.find(({ kind }) => kind === 'fdb');
  assert.ok(peer?.kind === 'fdb');
  const loop = runOn(
    NODE,
    'sh',
    '-c',
    'end=$(($(date +%s) + 12)); while [ $(date +%s) -lt $end ]; do bridge -n mesh-net-ingress fdb del MAC dev vxlan0 2>/dev/null; done'.replace(
      'MAC',
      peer.mac,
    ),
  );
  await waitFor('a condition', 30_000, async () => (await nodeConditions(NODE)).join().includes('DriftConflict'));
  await loop;
  const operations = (await nodeInfo(NODE)).counters!.operations - before;
  console.log(`# 12 s of repeated deletion: ${operations} kernel operations`);
  assert.ok(operations < 40, `${operations} operations`);
  await waitUntilQuiet();
  await waitFor('the condition to clear', 90_000, async () => (await nodeConditions(NODE)).length === 0);
});

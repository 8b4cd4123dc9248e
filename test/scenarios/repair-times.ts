// Each kind of damage by itself on one node: how long until it was put right, by the node's own history, what that says
// was wrong, and by whom.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChangeRecord } from '../../src/model/change-record.ts';
import type { KernelObject } from '../../src/model/kernel-state.ts';
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

/** Kind, which one of it, and whether the kernel tells of it or only an audit sees it. */
const KINDS: [Kind, (object: KernelObject) => boolean, 'told' | 'audited'][] = [
  ['veth', ({ netns }) => netns === 'host', 'told'],
  ['vxlan', router, 'told'],
  ['address', lb, 'told'],
  ['neighbour', router, 'told'],
  ['fdb', router, 'told'],
  ['route', router, 'told'],
  ['rule', router, 'told'],
  ['chain', lb, 'told'],
  ['jump', ({ netns }) => netns === 'host', 'told'],
  ['set-member', ({ netns }) => netns === 'host', 'audited'],
  ['virtual-service', lb, 'audited'],
  ['real-server', lb, 'audited'],
];

/** When the damage was done and the repair that followed it. */
async function measureRepair(command: string): Promise<{ ms: number; change: ChangeRecord }> {
  // The time before the damage: the repair may be over before another program has started.
  // A chain that something jumps to is emptied, and stays: its command ends with an error.
  const began = Number((await sh(`date +%s%3N; ${command}; true`)).split('\n')[0]);
  const change = await waitFor(`a repair after ${command}`, 60_000, async () =>
    (await recentChanges(60_000)).get(NODE)!.find(({ at, why, count }) => why === 'repair' && count > 0 && at >= began),
  );
  await waitUntilQuiet();
  return { ms: Math.round(change.at + change.took - began), change };
}

test('every kind of object that somebody deletes is repaired; the history tells what was wrong and how long it took', async () => {
  await applyWeb({ replicas: 3 });
  await waitUntilQuiet();
  for (const [kind, which, how] of KINDS) {
    const objects = (await allKernelObjects()).get(NODE)!;
    const object = objects.find((one) => one.kind === kind && which(one));
    assert.ok(object, `no ${kind} on ${NODE}`);
    const { ms, change } = await measureRepair(renderOp({ verb: 'delete', object }).join('; '));
    console.log(`# ${kind} (${how}): whole after ${ms} ms; ${change.wrong[0]}${change.by.map((by) => `, by ${by}`)}`);
    assert.match(change.wrong.join('\n'), /missing|nobody wants it|→|lacks/);
    assert.deepEqual(change.failures, []);
  }
});

test('switches that the kernel tells of, and those it does not tell of', async () => {
  for (const name of ['net.ipv4.ip_forward', 'net.ipv4.conf.all.rp_filter', 'net.ipv4.vs.expire_nodest_conn']) {
    const value = (await sh(`ip netns exec mesh-lb sysctl -n ${name}`)).trim();
    const { ms, change } = await measureRepair(`ip netns exec mesh-lb sysctl -qw ${name}=${value === '0' ? 1 : 0}`);
    console.log(`# ${name}: whole after ${ms} ms; ${change.wrong[0]}`);
    assert.equal((await sh(`ip netns exec mesh-lb sysctl -n ${name}`)).trim(), value);
  }
});

test('a program that keeps deleting what is ours: no storm, and said until it is over', async () => {
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
  console.log(`# a fight of 12 s: ${operations} kernel operations`);
  assert.ok(operations < 40, `${operations} operations in a fight`);
  await waitUntilQuiet();
  await waitFor('the condition is gone', 90_000, async () => (await nodeConditions(NODE)).length === 0);
});

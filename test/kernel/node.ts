import assert from 'node:assert/strict';
import { silentLog } from '../../src/base/log.ts';
import { diff } from '../../src/diff/diff.ts';
import { openLinuxKernel } from '../../src/kernel/driver/linux-kernel.ts';
import type { ApplyReport, Kernel } from '../../src/kernel/kernel.ts';
import type { Assignment } from '../../src/model/assignment.ts';
import { keyOf, stateOf } from '../../src/model/kernel-state.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import { port, threeNodes } from '../../src/plan/assignments.test-data.ts';
import { actualListing, expectedListing } from './listings.ts';
import { desiredStateOf, NETWORK, runShell, sleep, TASK, withoutIpvs } from './sandbox.ts';

/** The one node that the driver's tests build: its desired state and its kernel. */

export const FAMILIES = ['inet', 'inet6'] as const;
const baseAssignment = threeNodes(FAMILIES);
export const assignment: Assignment = {
  ...baseAssignment,
  ports: [
    ...baseAssignment.ports,
    { ...port('tcp', 8443, []), allowFrom: ['198.51.100.0/24', '2001:db8::/32', '2001:db8:1::7/128'] },
  ],
};
/** Options of tests that need IPVS. */
export const ipvsOptions = { skip: withoutIpvs ? 'left out by MESH_DRIVER_WITHOUT' : false };

let openedKernel: Kernel | undefined;

export const node = {
  want: desiredStateOf(assignment) as ReadonlyMap<string, KernelObject>,
  get kernel(): Kernel {
    assert.ok(openedKernel, 'openNode has not been called');
    return openedKernel;
  },
};

/** Opens the node's kernel; called before anything else here. */
export async function openNode(): Promise<void> {
  openedKernel = await openLinuxKernel({ log: silentLog(), desired: () => node.want });
}

/** Brings the kernel to a state in one diff and apply, and checks that a new observation agrees. */
export async function applyState(state: ReadonlyMap<string, KernelObject>): Promise<void> {
  const { failed } = await node.kernel.apply(diff(await node.kernel.observe(), state));
  assert.deepEqual(errorMessages(failed), []);
  const left = diff(await node.kernel.observe(), state);
  assert.deepEqual(
    left.map(({ verb, object }) => `${verb} ${keyOf(object)}`),
    [],
  );
}

/** What a change of the assignment costs when only what it changes is diffed. */
export async function measureChange(next: Assignment): Promise<ApplyReport> {
  const target = desiredStateOf(next);
  const report = await node.kernel.apply(diff(stateOf(node.want.values()), target));
  node.want = target;
  assert.deepEqual(errorMessages(report.failed), []);
  assert.deepEqual(diff(await node.kernel.observe(), node.want), []);
  return report;
}

/** Runs a damaging command, checks that the damage is observed, and repairs it. */
export async function damageAndRepair(command: string): Promise<void> {
  runShell(command);
  assert.notDeepEqual(diff(await node.kernel.observe(), node.want), [], 'the damage is not observed');
  // Deleting a netns by hand ends its links later than the command; a repair may need a second go.
  for (let i = 0; i < 100; i++) {
    const { failed } = await node.kernel.apply(diff(await node.kernel.observe(), node.want));
    if (failed.length === 0 && diff(await node.kernel.observe(), node.want).length === 0) break;
    await sleep(50);
  }
  await applyState(node.want);
}

/** The real tools list exactly the desired state, in each of the node's namespaces. */
export function assertListed(): void {
  for (const netns of ['host', 'mesh-lb', NETWORK, TASK]) {
    assert.deepEqual(actualListing(netns, { ipvs: !withoutIpvs }), expectedListing(netns, node.want.values()), netns);
  }
}

/** The messages of an apply's failures. */
export function errorMessages(failed: readonly { error: Error }[]): string[] {
  return failed.map(({ error }) => error.message);
}

/** A desired object of a kind; throws when none matches. */
export function findObject<K extends KernelObject['kind']>(
  kind: K,
  matches: (object: Extract<KernelObject, { kind: K }>) => boolean = () => true,
): Extract<KernelObject, { kind: K }> {
  for (const object of node.want.values()) {
    if (object.kind !== kind) continue;
    const candidate = object as Extract<KernelObject, { kind: K }>;
    if (matches(candidate)) return candidate;
  }
  throw new Error(`the desired state has no such ${kind}`);
}

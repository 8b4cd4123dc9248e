import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { diff } from '../../src/diff/diff.ts';
import { stateOf } from '../../src/model/kernel-state.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import type { HostRouting } from '../../src/model/policy-rule.ts';
import { CAPABILITIES } from '../../src/plan/assignments.test-data.ts';
import { planHostRouting, unfollowedHostRules } from '../../src/plan/plan.ts';
import { assignment, errorMessages, node } from './node.ts';

/** What tests of the host's own routing share. The lb has a UDP echo in the place of IPVS, so that they need none. */

export const PORT = 7777;
export const LB = { inet: '10.252.1.2', inet6: 'fd6d:65:73:1::2' } as const;
export type Family = keyof typeof LB;

/** Makes the node follow the host's routing, as the agent does; returns it and whether answers follow all of its rules. */
export async function followHost(): Promise<HostRouting & { isFollowed: boolean }> {
  const hostRouting = await node.kernel.hostRouting();
  const capabilities = { ...CAPABILITIES, hostRouting };
  await replaceHostObjects(planHostRouting(assignment, capabilities));
  return { ...hostRouting, isFollowed: unfollowedHostRules(assignment, capabilities)?.length === 0 };
}

/** Removes what followHost made. */
export const forgetHost = () => replaceHostObjects([]);

async function replaceHostObjects(objects: readonly KernelObject[]): Promise<void> {
  const before = node.want;
  node.want = stateOf([...[...before.values()].filter((object) => !isOfHostRouting(object)), ...objects]);
  const { failed } = await node.kernel.apply(diff(before, node.want));
  assert.deepEqual(errorMessages(failed), []);
}

function isOfHostRouting(object: KernelObject): boolean {
  const isFirewall = object.kind === 'chain' || object.kind === 'jump';
  if (object.netns === 'host' && isFirewall && object.table === 'mangle') return true;
  return object.kind === 'host-rule' || (object.kind === 'sysctl' && object.name.endsWith('.src_valid_mark'));
}

/** Resolves when it answers. */
export async function startEcho(): Promise<ChildProcess> {
  const script = Object.values(LB)
    .map(
      (address, index) => `
      const s${index} = require('node:dgram').createSocket('${address.includes(':') ? 'udp6' : 'udp4'}');
      s${index}.on('message', (text, from) => s${index}.send(text, from.port, from.address));
      s${index}.bind(${PORT}, '${address}', () => console.log('bound'));`,
    )
    .join('');
  const child = spawn('ip', ['netns', 'exec', 'mesh-lb', process.execPath, '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return child;
}

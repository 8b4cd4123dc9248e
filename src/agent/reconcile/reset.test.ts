import { expect, it } from 'vitest';
import { systemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { createModelKernel } from '../../kernel/model/model-kernel.ts';
import type { ChangeRecord } from '../../model/change-record.ts';
import { parseFirewallRule } from '../../model/kinds/parse-firewall-rule.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { assignment, desiredState, fakeRuntime, TASK } from '../agent.test-data.ts';
import type { History } from '../session/history.ts';
import { resetNode } from './reset.ts';

const foreign: KernelObject[] = [
  { kind: 'netns', netns: 'foreign', loopbackUp: true },
  { kind: 'address', netns: 'host', dev: 'eth0', address: '192.0.2.1', prefix: 24 },
];

/** A history that only remembers. */
function remembered(): { changes: ChangeRecord[]; history: History } {
  const changes: ChangeRecord[] = [];
  const history: History = {
    add: (change) => void changes.push(change),
    query: async () => ({ changes }),
    flush: async () => {},
  };
  return { changes, history };
}

it('removes everything of ours, tasks first, and nothing else', async () => {
  const kernel = createModelKernel({ objects: desiredState(assignment()).values(), foreign });
  const tasks = fakeRuntime();
  const runtime = tasks.runtime();
  await runtime.start({ task: assignment().tasks[0]!, netnsPath: '', environment: {} });
  const runtimeThatStops = {
    ...runtime,
    stop: (id: string, grace: number) => {
      expect(grace).toBe(0);
      tasks.end(id, { signal: 'SIGKILL' });
    },
  };
  const { changes, history } = remembered();
  const done = await resetNode({
    kernel,
    runtime: runtimeThatStops,
    clock: systemClock,
    log: silentLog(),
    history,
    force: true,
  });
  expect(done.tasks).toBe(1);
  expect(tasks.removed).toEqual([TASK]);
  const left = [...kernel.state().values()].filter(({ kind }) => kind !== 'sysctl' && kind !== 'ipvs-timeouts');
  expect(left).toEqual([]);
  expect(kernel.foreign()).toEqual(foreign);
  expect(changes[0]).toMatchObject({ why: 'reset', failures: [] });
  expect(changes.reduce((sum, { count }) => sum + count, 0)).toBe(done.objects);
});

it("keeps the administrator's chain while it contains rules, and removes it when it is empty", async () => {
  const objects = desiredState(assignment());
  const [key, chain] = [...objects].find(([, object]) => object.kind === 'chain' && object.administrator)!;
  const reset = async (rules: string[]) => {
    const kernel = createModelKernel({
      objects: new Map(objects).set(key, { ...chain, rules: rules.map(parseFirewallRule) } as KernelObject).values(),
    });
    const runtime = fakeRuntime().runtime();
    await resetNode({
      kernel,
      runtime,
      clock: systemClock,
      log: silentLog(),
      history: remembered().history,
      force: true,
    });
    return [...kernel.state().values()].filter(({ kind }) => kind === 'chain' || kind === 'jump');
  };
  const rules = ['-s 192.0.2.7/32 -j DROP'];
  expect(await reset(rules)).toEqual([{ ...chain, rules: rules.map(parseFirewallRule) }]);
  expect(await reset([])).toEqual([]);
});

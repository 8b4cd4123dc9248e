import { expect, it } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { createModelKernel } from '../kernel/model-kernel.ts';
import type { KernelObject } from '../model/kernel-state.ts';
import { assignment, fakeRuntime, TASK, wantedOf } from './agent.test-data.ts';
import { resetNode } from './reset.ts';

const foreign: KernelObject[] = [
  { kind: 'netns', netns: 'somebody-elses', loopbackUp: true },
  { kind: 'address', netns: 'host', dev: 'eth0', address: '192.0.2.1', prefix: 24 },
];

it('takes everything of ours, tasks first, and nothing else', async () => {
  const kernel = createModelKernel({ objects: wantedOf(assignment()).values(), foreign });
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
  const done = await resetNode({
    kernel,
    runtime: runtimeThatStops,
    clock: systemClock,
    log: silentLog(),
    force: true,
  });
  expect(done.tasks).toBe(1);
  expect(tasks.removed).toEqual([TASK]);
  const left = [...kernel.state().values()].filter(({ kind }) => kind !== 'sysctl' && kind !== 'ipvs-timeouts');
  expect(left).toEqual([]);
  expect(kernel.foreign()).toEqual(foreign);
});

import { expect, it } from 'vitest';
import { systemClock } from '../../base/clock.ts';
import { MeshError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { extraTask, fakeRuntime } from '../agent.test-data.ts';
import { createTaskSupervisor } from './task-supervisor.ts';

it('leaves a task whose ports are being allocated to the next agent when this one stops', async () => {
  const allocation = Promise.withResolvers<never>();
  const runtime = fakeRuntime();
  const supervisor = createTaskSupervisor({
    runtime: runtime.runtime(),
    clock: systemClock,
    random: () => 0,
    log: silentLog(),
    nodeName: () => 'node1',
    netnsPath: (taskId) => `/run/netns/${taskId}`,
    listeners: async () => [],
    allocatePorts: () => allocation.promise,
    onStatus: () => {},
    onUnexposed: () => {},
    onRemovable: () => {},
  });
  supervisor.assign([{ ...extraTask(1), pick: [{ protocol: 'tcp', port: 80 }] }], []);
  supervisor.startReady(() => undefined);
  supervisor.close();
  allocation.reject(new MeshError('unavailable', 'the agent is stopping'));
  await new Promise((resolve) => setImmediate(resolve));
  expect(supervisor.statuses().map(({ status }) => status.state)).toEqual(['starting']);
  expect(runtime.started).toEqual([]);
});

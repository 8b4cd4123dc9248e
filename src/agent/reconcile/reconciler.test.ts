import { beforeEach, expect, it, vi } from 'vitest';
import { systemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { createModelKernel, type ModelKernel } from '../../kernel/model/model-kernel.ts';
import { stateOf } from '../../model/kernel-state.ts';
import { type Conditions, createConditions } from '../conditions.ts';
import { createReconciler, type Reconciler } from './reconciler.ts';

const desired = stateOf([{ kind: 'netns', netns: 'mesh-lb', loopbackUp: true }]);

let kernel: ModelKernel;
let conditions: Conditions;
let reconciler: Reconciler;
const onApplied = vi.fn();

beforeEach(() => {
  onApplied.mockClear();
  kernel = createModelKernel();
  conditions = createConditions(() => {});
  reconciler = createReconciler({
    kernel,
    clock: systemClock,
    log: silentLog(),
    conditions,
    onApplied,
    onNetnsCreated: () => {},
    onChanged: () => {},
  });
});

it('reads before it is started, and changes nothing', async () => {
  reconciler.setDesired(desired, 1);
  await expect(reconciler.runExclusive(async () => kernel.state().size)).resolves.toBe(0);
  expect(await reconciler.audit({})).toBe(0);
  expect(kernel.counters()).toMatchObject({ observes: 0, operations: 0 });
  expect(onApplied).not.toHaveBeenCalled();
  await reconciler.stop();
});

it('observes everything again after a pass that failed, and acknowledges only then', async () => {
  const { observe } = kernel;
  kernel.observe = () => {
    kernel.observe = observe;
    return Promise.reject(new Error('the netlink socket was closed'));
  };
  reconciler.setDesired(desired, 1);
  reconciler.start();
  await vi.waitFor(() => expect(conditions.get('KernelUnavailable')).toBeDefined());
  expect(onApplied).not.toHaveBeenCalled();
  await vi.waitFor(() => expect(onApplied).toHaveBeenCalledWith(1, []), { timeout: 10_000 });
  expect(kernel.state()).toEqual(desired);
  expect(conditions.list()).toEqual([]);
  await reconciler.stop();
});

it('ends flows from before its start once the rules are in force, also if nothing has to be changed', async () => {
  const { endUntranslatedFlows } = kernel;
  const statesThen: number[] = [];
  kernel.endUntranslatedFlows = () => {
    statesThen.push(kernel.state().size);
    return endUntranslatedFlows();
  };
  await kernel.apply([...desired.values()].map((object) => ({ verb: 'create', object })));
  reconciler.setDesired(desired, 1);
  reconciler.start();
  await vi.waitFor(() => expect(onApplied).toHaveBeenCalledWith(1, []));
  expect(statesThen).toEqual([desired.size]);
  await reconciler.stop();
});

it('rejects the reads that wait when it stops', async () => {
  let release = () => {};
  const underWay = reconciler.runExclusive(() => new Promise<void>((resolve) => (release = resolve)));
  const waiting = reconciler.runExclusive(async () => 1);
  await new Promise((resolve) => setImmediate(resolve));
  const stopped = reconciler.stop();
  release();
  await expect(waiting).rejects.toMatchObject({ code: 'unavailable' });
  await Promise.all([underWay, stopped]);
});

import assert from 'node:assert/strict';
import { diff } from '../../src/diff/diff.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { createModelKernel } from '../../src/kernel/model/model-kernel.ts';
import { playScript } from '../../src/kernel/model/play-script.ts';
import { type KernelState, keyOf, type Op } from '../../src/model/kernel-state.ts';
import type { KernelObject, ObjectKind } from '../../src/model/kinds/registry.ts';
import { renderOp } from '../../src/model/render.ts';
import { runShell, sleep } from './sandbox.ts';

/** Kinds of which one object is deleted by hand. */
const DELETED_KINDS: readonly ObjectKind[] = [
  'address',
  'neighbour',
  'fdb',
  'route',
  'rule',
  'set-member',
  'real-server',
  'virtual-service',
  'jump',
  'vxlan',
  'veth',
  'netns',
];

/**
 * The same changes on the model kernel and on the real one: an object is deleted with the real tools; both must then have
 * the same remaining objects and execute the same repair with the same results.
 */
export async function replayOnRealAndModel(real: Kernel, want: KernelState): Promise<void> {
  const model = createModelKernel({ objects: want.values() });
  const applyWithTools = (op: Op) => void runShell(renderOp(op).join(' && '));
  const applyToModel = (op: Op) => assert.equal(model.changeExternally(op), undefined);
  for (const kind of DELETED_KINDS) {
    const object = [...want.values()].find((candidate) => candidate.kind === kind);
    if (!object) continue;
    const damage = { corrupt: { verb: 'delete', object } } as const;
    await playScript(real, applyWithTools, [damage]);
    await playScript(model, applyToModel, [damage]);
    const remaining = await model.observe();
    await waitForState(real, remaining);
    assert.deepEqual(
      renderState(await real.observe()),
      renderState(remaining),
      `after ${renderOp(damage.corrupt).join()}`,
    );
    const steps = diff(remaining, want);
    const outcomes = [await playScript(real, applyWithTools, steps), await playScript(model, applyToModel, steps)];
    const [onReal, onModel] = outcomes.map((list) =>
      list.map((outcome, i) => `${outcome} ${renderOp(steps[i]!).join()}`),
    );
    assert.deepEqual(onReal, onModel, kind);
    assert.deepEqual(renderState(await real.observe()), renderState(want), kind);
  }
}

/** The links of a deleted netns are removed a moment after the command. */
async function waitForState(real: Kernel, expected: KernelState): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if (diff(await real.observe(), expected).length === 0) return;
    await sleep(50);
  }
}

function renderState(state: ReadonlyMap<string, KernelObject>): string[] {
  return [...state.values()]
    .map((object) => `${keyOf(object)} ${JSON.stringify(object, Object.keys(object).sort())}`)
    .sort();
}

import assert from 'node:assert/strict';
import { diff } from '../../src/diff/diff.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { createModelKernel, playScript } from '../../src/kernel/model-kernel.ts';
import { type KernelObject, type KernelState, keyOf, type ObjectKind, type Op } from '../../src/model/kernel-state.ts';
import { renderOp } from '../../src/model/render.ts';
import { pause, sh } from './stage.ts';

/** One of each that somebody may delete by hand; the rest of a kind behaves the same. */
const VICTIMS: readonly ObjectKind[] = [
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
 * The same hands at the model kernel and at the real one: somebody deletes an object with the real tools, and both must
 * show the same left over (what dies together does so in both), want the same steps, and take them alike.
 */
export async function replayOnBoth(real: Kernel, want: KernelState): Promise<void> {
  const model = createModelKernel({ objects: want.values() });
  const byHand = (op: Op) => void sh(renderOp(op).join(' && '));
  const inModel = (op: Op) => assert.equal(model.corrupt(op), undefined);
  for (const kind of VICTIMS) {
    const object = [...want.values()].find((candidate) => candidate.kind === kind);
    if (!object) continue;
    const harm = { corrupt: { verb: 'delete', object } } as const;
    await playScript(real, byHand, [harm]);
    await playScript(model, inModel, [harm]);
    const left = await model.observe();
    await settled(real, left);
    assert.deepEqual(shown(await real.observe()), shown(left), `after ${renderOp(harm.corrupt).join()}`);
    const steps = diff(left, want);
    const outcomes = [await playScript(real, byHand, steps), await playScript(model, inModel, steps)];
    const [onReal, onModel] = outcomes.map((list) =>
      list.map((outcome, i) => `${outcome} ${renderOp(steps[i]!).join()}`),
    );
    assert.deepEqual(onReal, onModel, kind);
    assert.deepEqual(shown(await real.observe()), shown(want), kind);
  }
}

/** The links of a deleted netns end a moment after the command. */
async function settled(real: Kernel, left: KernelState): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if (diff(await real.observe(), left).length === 0) return;
    await pause(50);
  }
}

function shown(state: ReadonlyMap<string, KernelObject>): string[] {
  return [...state.values()]
    .map((object) => `${keyOf(object)} ${JSON.stringify(object, Object.keys(object).sort())}`)
    .sort();
}

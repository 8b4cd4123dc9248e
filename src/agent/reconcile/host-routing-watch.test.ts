import { expect, it, vi } from 'vitest';
import { silentLog } from '../../base/log.ts';
import type { HostRouting } from '../../model/policy-rule.ts';
import { createHostRoutingWatch } from './host-routing-watch.ts';

const NONE: HostRouting = { rules: [], localSources: [], strictReversePath: false };
const STRICT: HostRouting = { ...NONE, strictReversePath: true };

function createWatch(hostRouting: () => Promise<HostRouting>) {
  const onChange = vi.fn();
  const watch = createHostRoutingWatch({ kernel: { hostRouting }, log: silentLog(), onChange });
  return { watch, onChange };
}

it('reports a change once, with the routing from before', async () => {
  let routing = NONE;
  const { watch, onChange } = createWatch(async () => structuredClone(routing));
  await watch.refresh();
  expect(onChange.mock.calls).toEqual([[undefined]]);
  await watch.refresh();
  expect(onChange).toHaveBeenCalledTimes(1);
  routing = STRICT;
  await watch.refresh();
  expect(onChange.mock.calls.slice(1)).toEqual([[NONE]]);
  expect(watch.current()).toEqual(STRICT);
});

it('reads again after a change during a read, and keeps what it has when a read fails', async () => {
  const answers = [NONE, new Error('no answer'), STRICT];
  const hostRouting = vi.fn(async () => {
    const next = answers.shift()!;
    if (next instanceof Error) throw next;
    return next;
  });
  const { watch } = createWatch(hostRouting);
  await Promise.all([watch.refresh(), watch.refresh(), watch.refresh()]);
  expect(hostRouting).toHaveBeenCalledTimes(2);
  expect(watch.current()).toEqual(NONE);
  await watch.refresh();
  expect(watch.current()).toEqual(STRICT);
});

it('reads after changes of rules in the host, and after others that may include them', async () => {
  const hostRouting = vi.fn(async () => NONE);
  const { watch } = createWatch(hostRouting);
  watch.onKernelChange({ netns: ['mesh-lb'] });
  watch.onKernelChange({ netns: ['host'], kinds: ['route', 'rule'] });
  expect(hostRouting).not.toHaveBeenCalled();
  for (const scope of [{}, { netns: ['host'] }, { kinds: ['host-rule' as const] }]) {
    watch.onKernelChange(scope);
    await watch.refresh();
  }
  expect(hostRouting.mock.calls.length).toBeGreaterThanOrEqual(3);
});

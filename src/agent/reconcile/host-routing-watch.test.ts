import { expect, it, vi } from 'vitest';
import { silentLog } from '../../base/log.ts';
import type { HostNetworkChange } from '../../kernel/kernel.ts';
import { createModelKernel } from '../../kernel/model/model-kernel.ts';
import type { HostRouting } from '../../model/policy-rule.ts';
import { createHostRoutingWatch } from './host-routing-watch.ts';

const NONE: HostRouting = { rules: [], localSources: [], strictReversePath: false };
const STRICT: HostRouting = { ...NONE, strictReversePath: true };

function createWatch(hostRouting: () => Promise<HostRouting>) {
  const watchers = new Set<(change: HostNetworkChange) => void>();
  const hostNetwork = {
    ...createModelKernel().hostNetwork,
    watch(onChange: (change: HostNetworkChange) => void) {
      watchers.add(onChange);
      return () => watchers.delete(onChange);
    },
  };
  const onChange = vi.fn();
  const watch = createHostRoutingWatch({ kernel: { hostRouting, hostNetwork }, log: silentLog(), onChange });
  const announce = (change: HostNetworkChange) => {
    for (const watcher of watchers) watcher(change);
  };
  return { watch, onChange, announce };
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

it('reads after changes of rules, addresses and links, and not of routes, until it is stopped', async () => {
  let reads = 0;
  const { watch, announce } = createWatch(async () => {
    reads += 1;
    return NONE;
  });
  // The refresh waits for the read, and reads once more.
  const readsAfter = async (change: HostNetworkChange) => {
    reads = 0;
    announce(change);
    if (reads > 0) await watch.refresh();
    return reads;
  };
  await watch.start();
  expect(reads).toBe(1);
  expect(await readsAfter({ of: 'route', destination: '192.0.2.0/24' })).toBe(0);
  expect(await readsAfter({ of: 'addresses' })).toBe(2);
  expect(await readsAfter({ of: 'unknown' })).toBe(2);
  watch.stop();
  expect(await readsAfter({ of: 'addresses' })).toBe(0);
});

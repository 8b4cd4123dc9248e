import { describe, expect, it } from 'vitest';
import { keyOf, stateOf } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import type { Link } from '../../netlink/link.ts';
import { createObservedCache } from '../driver/observed-cache.ts';
import type { KernelEvent } from '../kinds/kind.ts';
import { observedLinks } from './events.ts';
import { detectChanges, hasPendingEvents, noPendingEvents, recordEvent } from './pending-events.ts';

const NETNS = 'mesh-net-ingress';
const address: KernelObject = { kind: 'address', netns: NETNS, dev: 'vxlan0', address: '10.252.1.0', prefix: 32 };
const vxlan: KernelObject = {
  kind: 'vxlan',
  netns: NETNS,
  name: 'vxlan0',
  underlayNetns: 'host',
  vni: 4096,
  local: '192.0.2.1',
  port: 4789,
  mac: '02:6d:65:73:00:01',
  mtu: 1450,
  up: true,
  gbp: true,
  learning: false,
};
const link = (removed: boolean): KernelEvent => ({
  of: 'link',
  name: 'vxlan0',
  removed,
  link: { index: 7, up: true, mtu: 1450, mac: vxlan.mac, kind: 'vxlan' } as Link,
});
const about = (object: KernelObject | undefined): KernelEvent => ({
  of: 'object',
  kind: 'address',
  key: keyOf(address),
  object,
});

function detect(events: readonly KernelEvent[], ownLinks: readonly string[] = []) {
  const cache = createObservedCache();
  cache.recordObserved({}, stateOf([address, vxlan]));
  const pending = noPendingEvents();
  for (const event of events) recordEvent(pending, event, { pid: 7 });
  return detectChanges(NETNS, pending, cache, observedLinks(cache), new Set(ownLinks));
}

describe('pending events', () => {
  it('are ignored if the last one matches the observed state, regardless of earlier ones', () => {
    expect(detect([about(undefined), about(address)])).toEqual({ scopes: [], by: [] });
  });

  it('name the kind that changed and the process that changed it', () => {
    expect(detect([about(undefined)])).toEqual({ scopes: [{ netns: [NETNS], kinds: ['address'] }], by: [{ pid: 7 }] });
  });

  it('of a link that was created again concern all that was on it, unless we did that', () => {
    const [scope] = detect([link(true), link(false)]).scopes;
    expect(scope?.kinds).toEqual(expect.arrayContaining(['vxlan', 'address', 'route', 'fdb', 'sysctl']));
    expect(detect([link(true), link(false)], [`${NETNS} vxlan0`]).scopes).toEqual([]);
  });

  it('about what was on a removed link are dropped, for the kernel may not announce its end', () => {
    const route: KernelEvent = { of: 'object', kind: 'address', key: 'x', object: address };
    const pending = noPendingEvents();
    for (const event of [route, link(true)]) recordEvent(pending, event, undefined);
    expect([...pending.latest.keys()]).toEqual(['link vxlan0']);
  });

  it('about a new local address are evaluated, although they concern no object', () => {
    const pending = { ...noPendingEvents(), localAddressAdded: true };
    expect(hasPendingEvents(pending)).toBe(true);
    expect(detectChanges('host', pending, createObservedCache(), new Map(), new Set()).scopes).toEqual([]);
  });

  it('that were lost concern the whole netns', () => {
    const pending = { ...noPendingEvents(), eventsLost: true };
    expect(hasPendingEvents(pending)).toBe(true);
    expect(detectChanges(NETNS, pending, createObservedCache(), new Map(), new Set()).scopes).toEqual([
      { netns: [NETNS] },
    ]);
  });
});

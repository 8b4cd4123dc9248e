import { describe, expect, it } from 'vitest';
import type { KernelObject, ObjectKind } from '../../model/kinds/registry.ts';
import type { NetlinkMessage, NetlinkRequest } from '../../netlink/message.ts';
import { newFdb } from '../../netlink/neighbour.ts';
import { newRoute } from '../../netlink/route.ts';
import { newRule } from '../../netlink/rule.ts';
import { decodeEvents } from '../events/events.ts';
import { stepsOf } from './registry.ts';

const NETNS = 'mesh-net-ingress';
const read = ({ type, payload }: NetlinkRequest): KernelObject | undefined => {
  const message: NetlinkMessage = { type, flags: 0, sequence: 0, portId: 0, payload };
  const [event] = decodeEvents(NETNS, message, (index) => (index === 7 ? 'vxlan0' : undefined));
  return event?.of === 'object' ? event.object : undefined;
};
const counts = (object: KernelObject, after: KernelObject) => ({
  create: stepsOf({ verb: 'create', object: after }).length,
  change: stepsOf({ verb: 'change', object: after, before: object }).length,
  delete: stepsOf({ verb: 'delete', object }).length,
});

describe('what another program did to an object of ours', () => {
  const route = { destination: '10.252.2.0/24', index: 7, protocol: 109 };

  it.each<[string, NetlinkRequest, ObjectKind, string[] | undefined]>([
    ['a route of ours', newRoute(route), 'route', undefined],
    ['another metric', newRoute({ ...route, priority: 77 }), 'route', ['metric 77']],
    ['a blackhole', newRoute({ ...route, index: undefined, type: 'blackhole' }), 'route', ['blackhole no dev']],
    ['a link that is not ours', newRoute({ ...route, index: 8 }), 'route', ['dev if8']],
    ['the metric of IPv6', newRoute({ ...route, destination: '::/0', priority: 1024 }), 'route', undefined],
    ['a rule of ours', newRule({ family: 'inet', priority: 10_002, action: { lookup: 9 } }), 'rule', undefined],
    ['an entry of ours', newFdb({ index: 7, mac: '02:00:00:00:00:01', dst: '192.0.2.1' }), 'fdb', undefined],
  ])('is in the field foreign: %s', (_, request, kind, foreign) => {
    const object = read(request);
    expect(object?.kind).toBe(kind);
    expect(object?.foreign).toEqual(foreign);
  });

  it('costs one deletion for each route or rule in the place of ours', () => {
    const ours = read(newRoute(route))!;
    expect(counts(ours, ours)).toEqual({ create: 1, change: 1, delete: 1 });
    const doubled = { ...ours, foreign: ['metric 0', 'metric 77'] };
    expect(counts(doubled, ours)).toEqual({ create: 1, change: 3, delete: 2 });
    const rule = read(newRule({ family: 'inet', priority: 10_002, fwmark: 2, action: { lookup: 9 } }))!;
    expect(counts({ ...rule, foreign: ['selects by more than the mark', 'doubled'] }, rule)).toEqual({
      create: 1,
      change: 3,
      delete: 2,
    });
  });
});

import { describe, expect, it } from 'vitest';
import { stateOf } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { IFA_F_NODAD, newAddress } from '../../netlink/address.ts';
import type { Link } from '../../netlink/link.ts';
import type { NetlinkMessage, NetlinkRequest } from '../../netlink/message.ts';
import { newFdb, newNeighbour } from '../../netlink/neighbour.ts';
import { announcesLocalAddress, newRoute } from '../../netlink/route.ts';
import { RTM_DELADDR, RTM_DELROUTE, RTM_GETROUTE } from '../../netlink/rtnetlink.ts';
import { newRule } from '../../netlink/rule.ts';
import { createObservedCache } from '../driver/observed-cache.ts';
import { decodeEvents, isLinkChange, isObjectChange, observedLinks } from './events.ts';

const nameOf = (index: number) => (index === 7 ? 'vxlan0' : undefined);
/** Events have the layout of requests. */
const event = ({ payload, type }: NetlinkRequest, as = type): NetlinkMessage => ({
  type: as,
  flags: 0,
  sequence: 0,
  portId: 0,
  payload,
});
const read = (message: NetlinkMessage, netns = 'mesh-net-ingress') => decodeEvents(netns, message, nameOf)[0];
const address: KernelObject = {
  kind: 'address',
  netns: 'mesh-net-ingress',
  dev: 'vxlan0',
  address: '10.252.1.0',
  prefix: 32,
};

function cacheOf(...objects: KernelObject[]) {
  const known = createObservedCache();
  known.recordObserved({}, stateOf(objects));
  return known;
}

describe('events', () => {
  it('that match the observed state are ignored, all others are changes', () => {
    const added = read(event(newAddress({ index: 7, address: '10.252.1.0', prefix: 32 })));
    const removed = read(event(newAddress({ index: 7, address: '10.252.1.0', prefix: 32 }), RTM_DELADDR));
    expect(added).toEqual({
      of: 'object',
      kind: 'address',
      key: 'address mesh-net-ingress vxlan0 10.252.1.0/32',
      object: address,
    });
    if (added?.of !== 'object' || removed?.of !== 'object') throw new Error('not read');
    expect(isObjectChange(cacheOf(address), added)).toBe(false);
    expect(isObjectChange(cacheOf(address), removed)).toBe(true);
    expect(isObjectChange(cacheOf(), added)).toBe(true);
    expect(isObjectChange(cacheOf(), removed)).toBe(false);
  });

  it('about a new local address or network are recognized', () => {
    const local = newRoute({ destination: '192.0.2.9/32', type: 'local', index: 7 });
    expect(announcesLocalAddress(event(local))).toBe(true);
    expect(announcesLocalAddress(event(newRoute({ destination: 'fd00::/64', type: 'local', index: 1 })))).toBe(true);
    expect(announcesLocalAddress(event(local, RTM_DELROUTE))).toBe(false);
    const linkLocal = newRoute({ destination: 'fe80::1/128', type: 'local', index: 7 });
    expect(announcesLocalAddress(event(linkLocal))).toBe(false);
    expect(announcesLocalAddress(event(local, RTM_GETROUTE))).toBe(false);
    expect(announcesLocalAddress(event(newRoute({ destination: '192.0.2.9/32', index: 7 })))).toBe(false);
    expect(announcesLocalAddress(event({ ...local, payload: local.payload.subarray(0, 7) }))).toBe(false);
    // A `local` route of another table makes nothing local for netfilter.
    const elsewhere = newRoute({ destination: '192.0.2.9/32', type: 'local', index: 7, table: 100 });
    expect(announcesLocalAddress(event(elsewhere))).toBe(false);
  });

  it('about what the kernel creates itself are ignored', () => {
    const linkLocal = read(event(newAddress({ index: 7, address: 'fe80::2', prefix: 64, flags: IFA_F_NODAD })));
    expect(linkLocal).toMatchObject({ of: 'object', object: undefined });
    const gateway = read(event(newAddress({ index: 7, address: 'fe80::1', prefix: 64 })));
    expect(gateway).toMatchObject({ object: { address: 'fe80::1' } });
    const foreignRoute = read(event(newRoute({ destination: '10.0.0.0/8', index: 7, protocol: 4 })));
    expect(foreignRoute).toMatchObject({ of: 'object', object: undefined });
    expect(read(event(newRule({ family: 'inet', priority: 100, action: { lookup: 1 } })))).toBeUndefined();
  });

  it('on links without a known name are none in the host and of their kind in our netns', () => {
    const message = event(newAddress({ index: 8, address: '10.1.1.1', prefix: 32 }));
    expect(read(message, 'host')).toBeUndefined();
    expect(read(message)).toEqual({ of: 'kind', kind: 'address' });
  });

  it('are read for every kind that sends them', () => {
    const mac = '02:00:00:00:00:01';
    const cases: [NetlinkMessage, string][] = [
      [event(newNeighbour({ index: 7, address: '10.1.1.1', mac })), 'neighbour mesh-net-ingress vxlan0 10.1.1.1'],
      [event(newFdb({ index: 7, mac, dst: '192.0.2.1' })), `fdb mesh-net-ingress vxlan0 ${mac}`],
      [
        event(newRoute({ destination: '::/0', index: 7, protocol: 109, table: 100_001 }), RTM_DELROUTE),
        'route mesh-net-ingress 100001 ::/0',
      ],
      [
        event(newRule({ family: 'inet6', priority: 10_002, fwmark: 2, action: { lookup: 9 } })),
        'rule mesh-net-ingress inet6 10002 2/0 lookup 9',
      ],
    ];
    for (const [message, key] of cases) expect(read(message)).toMatchObject({ of: 'object', key });
  });

  it('of links are compared with the end of the pair they are', () => {
    const known = cacheOf({
      kind: 'veth',
      netns: 'host',
      name: 'mesh0',
      mtu: 1450,
      up: true,
      peer: { netns: 'mesh-lb', name: 'host0', mtu: 1400, up: true },
    });
    const links = observedLinks(known);
    const about = (change: Partial<Link>, removed = false) => ({
      of: 'link' as const,
      name: 'host0',
      removed,
      link: { index: 2, up: true, mtu: 1400, mac: undefined, kind: 'veth', ...change } as Link,
    });
    const { ownerNetns, end } = links.get('mesh-lb host0')!;
    expect(ownerNetns).toBe('host');
    expect(isLinkChange('mesh-lb', about({}), known, end)).toBe(false);
    expect(isLinkChange('mesh-lb', about({ mtu: 1450 }), known, end)).toBe(true);
    expect(isLinkChange('mesh-lb', about({ up: false }), known, end)).toBe(true);
    expect(isLinkChange('mesh-lb', about({}, true), known, end)).toBe(true);
    expect(isLinkChange('mesh-lb', about({}), known, undefined)).toBe(true);
    expect(isLinkChange('mesh-lb', about({ kind: 'dummy' }), known, undefined)).toBe(false);
    expect(isLinkChange('mesh-lb', about({}, true), known, undefined)).toBe(false);
  });

  it('of what dies with a deleted link are known', () => {
    const vxlan = { kind: 'vxlan', netns: 'mesh-net-ingress', name: 'vxlan0' } as KernelObject;
    const known = cacheOf(address, { ...address, dev: 'lb0' });
    known.recordApplied([{ verb: 'delete', object: vxlan }]);
    expect([...known.values()]).toEqual([{ ...address, dev: 'lb0' }]);
  });

  it('about sysctls are news when the setting is one of ours and has another value', () => {
    const turned = (family: number, index: number, ...attributes: [type: number, value: number][]) => {
      const payload = Buffer.alloc(4 + 8 + 8 * attributes.length);
      payload.writeUInt8(family, 0);
      [[1, index] as const, ...attributes].forEach(([type, value], place) => {
        payload.writeUInt16LE(8, 4 + 8 * place);
        payload.writeUInt16LE(type, 6 + 8 * place);
        payload.writeInt32LE(value, 8 + 8 * place);
      });
      return decodeEvents('mesh-lb', { type: 80, flags: 0, sequence: 0, portId: 0, payload }, nameOf);
    };
    const ours = (name: string, value: string): KernelObject => ({ kind: 'sysctl', netns: 'mesh-lb', name, value });
    const known = cacheOf(ours('net.ipv4.ip_forward', '1'), ours('net.ipv4.conf.vxlan0.rp_filter', '0'));
    const news = (sights: ReturnType<typeof turned>) =>
      sights.flatMap((sight) => (sight.of === 'object' && isObjectChange(known, sight) ? [sight.key] : []));
    expect(news(turned(2, -1, [2, 0]))).toEqual(['sysctl mesh-lb net.ipv4.ip_forward']);
    expect(news(turned(2, -1, [2, 1]))).toEqual([]);
    expect(news(turned(2, 7, [3, 2]))).toEqual(['sysctl mesh-lb net.ipv4.conf.vxlan0.rp_filter']);
    expect(news(turned(2, 7, [2, 0]))).toEqual([]);
    expect(turned(2, 9, [3, 2])).toEqual([]);
    expect(turned(10, -2, [2, 0])).toMatchObject([{ key: 'sysctl mesh-lb net.ipv6.conf.default.forwarding' }]);
  });
});

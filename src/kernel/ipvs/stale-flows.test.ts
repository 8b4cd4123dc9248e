import { describe, expect, it } from 'vitest';
import { balancerAddresses } from '../../model/balancer-addresses.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import type { Flow } from '../../netlink/conntrack.ts';
import { flowChanges, isStale, publishedPorts } from './stale-flows.ts';

const created = (object: KernelObject): Op => ({ verb: 'create', object });
const deleted = (object: KernelObject): Op => ({ verb: 'delete', object });
const member = (set: string, port: number, netns = 'host'): KernelObject => ({ kind: 'set-member', netns, set, port });
const entry = (set: string, fields: object): KernelObject =>
  ({
    kind: 'set-entry',
    netns: 'host',
    set,
    network: '192.0.2.0/24',
    protocol: 'udp',
    port: 53,
    ...fields,
  }) as KernelObject;

function flow(destination: string, port: number, to = destination, more: Partial<Flow> = {}): Flow {
  const source = destination.includes(':') ? 'fd30::50' : '192.0.2.50';
  return {
    family: destination.includes(':') ? 'inet6' : 'inet',
    protocol: 17,
    original: { source, destination, sourcePort: 1000, destinationPort: port },
    reply: { source: to, destination: source, sourcePort: port, destinationPort: 1000 },
    zoned: false,
    name: { tuple: new Uint8Array(), id: new Uint8Array() },
    ...more,
  };
}

const natChain: KernelObject = {
  kind: 'chain',
  netns: 'host',
  family: 'inet',
  table: 'nat',
  chain: 'MESH-PREROUTING',
  rules: [],
};
const natJump: KernelObject = {
  kind: 'jump',
  netns: 'host',
  family: 'inet6',
  table: 'nat',
  from: 'OUTPUT',
  chain: 'MESH-OUTPUT',
  match: '',
  position: 'first',
};

describe('flows that a port finds or leaves behind', () => {
  it('are those of UDP and SCTP ports in the sets of the host', () => {
    expect(
      flowChanges(
        [
          created(member('mesh-pub-udp', 53)),
          deleted(member('mesh-pub-sctp', 9)),
          created(member('mesh-pub-tcp', 53)),
          created(member('mesh-svc-udp', 53, 'mesh-lb')),
          created(entry('mesh-at-4', {})),
          deleted(entry('mesh-from-4', { network2: '128.0.0.0/1' })),
          created(entry('mesh-from-4', { protocol: 'tcp', network2: '128.0.0.0/1' })),
          created({ kind: 'set-entry', netns: 'host', set: 'mesh-peers-4', network: '192.0.2.7/32' }),
        ],
        () => [],
      ),
    ).toEqual([
      { protocol: 'udp', port: 53, added: true },
      { protocol: 'sctp', port: 9, added: false },
      { protocol: 'udp', port: 53, added: true, local: '192.0.2.0/24' },
      { protocol: 'udp', port: 53, added: false, client: '192.0.2.0/24', local: '128.0.0.0/1' },
    ]);
  });

  it.each<[string, Op, boolean]>([
    ['a missing jump into the nat table', created(natJump), true],
    ['a missing chain of it', created(natChain), true],
    ['a changed chain of it', { verb: 'change', object: natChain, before: natChain }, true],
    ['the end of a chain', deleted(natChain), false],
    ['a chain of another table', created({ ...natChain, table: 'filter' }), false],
    ['a chain of another netns', created({ ...natChain, netns: 'mesh-net-ingress' }), false],
  ])('are those of every published port after the repair of %s', (_, op, isRepair) => {
    const desired = [member('mesh-pub-udp', 53), member('mesh-pub-tcp', 80), natChain, entry('mesh-at-4', {})];
    const all = [
      { protocol: 'udp', port: 53, added: true },
      { protocol: 'udp', port: 53, added: true, local: '192.0.2.0/24' },
    ];
    expect(publishedPorts(desired)).toEqual(all);
    expect(flowChanges([op], () => desired)).toEqual(isRepair ? all : []);
  });

  const local = (address: string) => ['192.0.2.1', 'fd30::1', 'fe80::1', '127.0.0.1'].includes(address);
  const lb = balancerAddresses([
    { kind: 'address', netns: 'mesh-lb', dev: 'host0', address: '10.252.1.2', prefix: 32 },
    { kind: 'address', netns: 'mesh-lb', dev: 'net0', address: '10.252.1.3', prefix: 32 },
  ]);
  const came = { protocol: 'udp', port: 53, added: true } as const;
  const left = { protocol: 'udp', port: 53, added: false } as const;

  it.each([
    ['to the host, without NAT', came, flow('192.0.2.1', 53), true],
    ['over IPv6', came, flow('fd30::1', 53), true],
    ['to a link-local address, which the host keeps', came, flow('fe80::1', 53), false],
    ['to another port', came, flow('192.0.2.1', 54), false],
    ['through the host', came, flow('198.51.100.1', 53), false],
    ['redirected by another program', came, flow('192.0.2.1', 53, '172.17.0.2'), false],
    ['already with the lb', came, flow('192.0.2.1', 53, '10.252.1.2'), false],
    ['of a zone', came, flow('192.0.2.1', 53, '192.0.2.1', { zoned: true }), false],
    ['with the lb, when the port was removed', left, flow('192.0.2.1', 53, '10.252.1.2'), true],
    ['with the host, when the port was removed', left, flow('192.0.2.1', 53), false],
    ['with another program, when the port was removed', left, flow('192.0.2.1', 53, '172.17.0.2'), false],
    ['of a client let in', { ...came, client: '192.0.2.0/24' }, flow('192.0.2.1', 53), true],
    ['of another client', { ...came, client: '192.0.3.0/24' }, flow('192.0.2.1', 53), false],
    ['of the other family', { ...came, client: '192.0.2.0/24' }, flow('fd30::1', 53), false],
    ['to another address', { ...came, local: '127.0.0.0/8' }, flow('192.0.2.1', 53), false],
  ])('%s', (_, change, candidate, ends) => {
    expect(isStale(change, candidate, local, lb)).toBe(ends);
  });
});

import fc from 'fast-check';
import type { Family, Protocol } from '../model/address.ts';
import type { AssignedPort, AssignedTask, Assignment, Endpoint, Peer } from '../model/assignment.ts';
import { addressAt } from '../model/block.ts';
import { vtepMac } from '../model/identifiers.ts';
import { SCHEDULERS } from '../model/spec.ts';
import type { NodeCapabilities } from './context.ts';

/** Assignments for tests of this module and of those that depend on it. */

export const CAPABILITIES: NodeCapabilities = {
  underlayMtu: 1500,
  kernel: { major: 6, minor: 1 },
  families: ['inet', 'inet6'],
  schedulers: SCHEDULERS,
};

const CIDR = { inet: '10.252.0.0/16', inet6: 'fd6d:65:73::/48' } as const;

function blockOf(number: number, family: Family): string {
  // Numbers above 255 use blocks elsewhere in 10/8; no test depends on which.
  return family === 'inet'
    ? `10.${(252 + (number >> 8)) & 255}.${number & 255}.0/24`
    : `fd6d:65:73:${number.toString(16)}::/64`;
}

/** Node `self` alone: no peers, ports or tasks. */
export function emptyAssignment(self: number, families: readonly Family[]): Assignment {
  return {
    revision: 1,
    self: { nodeId: `node${self}`, name: `node${self}`, number: self, underlay: `192.0.2.${self}` },
    networks: [
      {
        id: 'n1',
        name: 'ingress',
        vni: 4096,
        subnets: families.map((family) => ({ family, cidr: CIDR[family], block: blockOf(self, family) })),
      },
    ],
    peers: [],
    ports: [],
    tasks: [],
  };
}

export function peer(number: number, families: readonly Family[]): Peer {
  return {
    nodeId: `node${number}`,
    number,
    underlay: `192.${number >> 8}.2.${number & 255}`,
    mac: vtepMac(number),
    blocks: families.map((family) => ({ networkId: 'n1', family, block: blockOf(number, family) })),
  };
}

/** A running task in that slot of a node's block, counted from 1. */
export function task(id: string, node: number, slot: number, families: readonly Family[]): AssignedTask {
  return {
    id,
    serviceId: 's1',
    serviceName: 'web',
    slot,
    desired: 'running',
    addresses: families.map((family) => ({ networkId: 'n1', address: addressAt(blockOf(node, family), 4 + slot) })),
    process: { command: ['server'], workingDir: '/', environment: {} },
    targets: [{ protocol: 'tcp', port: 80 }],
    stopGracePeriod: 10_000,
  };
}

/** The task of that node and slot as an endpoint. */
export function endpoint(node: number, slot: number, family: Family, port: number, weight = 1): Endpoint {
  const address = addressAt(blockOf(node, family), 4 + slot);
  return { taskId: `t${node}x${slot}`, nodeId: `node${node}`, address, port, weight };
}

export function port(protocol: Protocol, published: number, endpoints: Endpoint[]): AssignedPort {
  return { protocol, published, mode: 'ingress', serviceId: 's1', serviceName: 'web', scheduler: 'rr', endpoints };
}

/** Node 1 of three, with a task of its own, one on another node, and a port in both transports. */
export function threeNodes(families: readonly Family[]): Assignment {
  const endpoints = (target: number) =>
    families.flatMap((family) => [endpoint(1, 1, family, target), endpoint(2, 1, family, target)]);
  return {
    ...emptyAssignment(1, families),
    peers: [peer(2, families), peer(3, families)],
    ports: [port('tcp', 8080, endpoints(80)), port('udp', 5353, endpoints(53))],
    tasks: [task('aaaaaaaaaaaa', 1, 1, families)],
  };
}

/** Any properties of a node, with one family or both. */
export const anyFamilies = fc.constantFrom<Family[]>(['inet'], ['inet6'], ['inet', 'inet6']);

/** Node numbers that share a block or a span of return rules, or neither. */
const anyPeerNumber = fc.constantFrom(2, 3, 4, 5, 64, 65, 95, 96, 1_030);

const anyNetworks = fc.uniqueArray(
  fc.constantFrom('10.0.0.0/8', '10.1.0.0/16', '10.1.2.3/32', '0.0.0.0/0', '2001:db8::/32', '2001:db8::7/128', '::/0'),
  { minLength: 1, maxLength: 3 },
);
/** Restrictions of a port; most often none. */
export const anyAccess: fc.Arbitrary<Pick<AssignedPort, 'allowFrom' | 'addresses'>> = fc.oneof(
  fc.constant({}),
  fc.record({ allowFrom: anyNetworks, addresses: anyNetworks }, { requiredKeys: [] }),
);

const PERSISTENT = { persistence: { timeout: 300_000, prefix: { inet: 24, inet6: 64 } } };

const anyRedirects = fc.constantFrom<Partial<AssignedTask>>(
  {},
  { redirects: [{ protocol: 'udp', from: 5354, to: 53 }] },
  {
    redirects: [
      { protocol: 'udp', from: 5354, to: 53 },
      { protocol: 'tcp', from: 8081, to: 80 },
    ],
  },
);

/** Small assignments that share nodes, ports and tasks, so that two of them overlap. */
export function anyAssignment(families: readonly Family[], self = 1): fc.Arbitrary<Assignment> {
  const weight = fc.constantFrom(0, 1, 1, 5);
  const anyEndpoint = fc
    .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 }), fc.constantFrom(...families), weight)
    .map(([node, slot, family, endpointWeight]) => endpoint(node, slot, family, 80, endpointWeight));
  const anyPort = fc
    .tuple(
      fc.constantFrom<Protocol>('tcp', 'udp', 'sctp'),
      fc.constantFrom(80, 443, 8080),
      fc.uniqueArray(anyEndpoint, { maxLength: 5, selector: (item) => item.address }),
      fc.constantFrom('rr', 'wlc', 'sh', 'mh'),
      fc.constantFrom<'ingress' | 'host'>('ingress', 'ingress', 'ingress', 'host'),
      fc.constantFrom<Partial<AssignedPort>>({}, { policy: 'prefer-local' }, { idleTimeout: 60_000 }, PERSISTENT),
    )
    .chain(([protocol, published, endpoints, scheduler, mode, balancing]) =>
      fc
        .oneof({ weight: 4, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: anyAccess })
        .map((access) => ({ ...port(protocol, published, endpoints), scheduler, mode, ...balancing, ...access })),
    );
  return fc
    .record({
      peers: fc.uniqueArray(fc.tuple(anyPeerNumber, fc.boolean()), { selector: ([number]) => number }).map((list) =>
        list.map(([number, moved]) => ({
          ...peer(number, families),
          ...(moved ? { underlay: `192.${number >> 8}.3.${number & 255}` } : {}),
        })),
      ),
      ports: fc.uniqueArray(anyPort, { maxLength: 6, selector: (item) => `${item.published}/${item.protocol}` }),
      tasks: fc
        .uniqueArray(fc.tuple(fc.integer({ min: 1, max: 4 }), anyRedirects), { selector: ([slot]) => slot })
        .map((list) => list.map(([slot, more]) => ({ ...task(`t${slot}`, self, slot, families), ...more }))),
      revision: fc.integer({ min: 1, max: 1000 }),
    })
    .map((parts) => ({ ...emptyAssignment(self, families), ...parts }));
}

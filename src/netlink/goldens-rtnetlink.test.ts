import { describe } from 'vitest';
import { compare, normalize, type Payload } from '../../test/goldens/compare.ts';
import { deleteAddress, dumpAddresses, IFA_F_NODAD, newAddress } from './address.ts';
import { deleteLink, dumpLinks, getLink, newLink, setLink } from './link.ts';
import { deleteFdb, deleteNeighbour, dumpFdb, dumpNeighbours, newFdb, newNeighbour } from './neighbour.ts';
import { dumpNetnsIds, getNetnsId, newNetnsId } from './netns-id.ts';
import { deleteRoute, dumpRoutes, newRoute } from './route.ts';
import { getRoute } from './route-lookup.ts';
import { deleteRule, dumpRules, newRule } from './rule.ts';

/** Also sorts the attributes inside IFLA_LINKINFO (18) and IFLA_INFO_DATA (2). */
const sortedLink = (payload: Payload) =>
  normalize(payload, 16, (type, value) =>
    type === 18 ? normalize(value, 0, (inner, data) => (inner === 2 ? normalize(data, 0) : data)) : value,
  );

/**
 * Requesting a link: iproute2 also requests SR-IOV functions (RTEXT_FILTER_VF), sometimes puts the mask first, and
 * sends AF_PACKET, which the kernel ignores.
 */
const linkLookup = (payload: Payload) => {
  const own = payload.slice();
  own[0] = 0;
  return normalize(own, 16, (type, value) => (type === 29 ? Uint8Array.of(8, 0, 0, 0) : value));
};

/** Deleting a rule: iproute2 leaves the action unset; meshd sets it, so that no other rule can match. */
const ruleDelete = (payload: Payload) => payload.with(7, 0);

const VX0 = 4;
const VETH0 = 2;
const mac = (last: number) => `02:6d:65:73:00:0${last}`;

describe('links', () => {
  compare('rtnetlink', [
    [
      'ip link add name veth0 mtu 1450 address 02:00:00:00:00:01 type veth peer name peer0 mtu 1400 address 02:00:00:00:00:02 netns golden1',
      newLink({
        name: 'veth0',
        mtu: 1450,
        mac: '02:00:00:00:00:01',
        config: { kind: 'veth', peer: { name: 'peer0', mtu: 1400, mac: '02:00:00:00:00:02', netns: { fd: 4 } } },
      }),
    ],
    [
      'ip link add name vx0 address 02:6d:65:73:00:01 type vxlan gbp id 4096 local 172.30.0.1 nolearning dstport 4789',
      newLink({
        name: 'vx0',
        mac: mac(1),
        config: { kind: 'vxlan', vni: 4096, local: '172.30.0.1', port: 4789, learning: false, gbp: true },
      }),
    ],
    [
      'ip link add name vx6 type vxlan gbp id 4097 group ff05::100 local fd30::1 dev veth0 ttl 16 tos 4 learning ageing 77 maxaddress 99 srcport 2000 3000 dstport 4790 noproxy norsc nol2miss nol3miss noudpcsum udp6zerocsumtx udp6zerocsumrx',
      newLink({
        name: 'vx6',
        config: {
          kind: 'vxlan',
          vni: 4097,
          group: 'ff05::100',
          local: 'fd30::1',
          link: VETH0,
          ttl: 16,
          tos: 4,
          learning: true,
          ageing: 77,
          limit: 99,
          sourcePorts: { from: 2000, to: 3000 },
          port: 4790,
          gbp: true,
          proxy: false,
          rsc: false,
          l2miss: false,
          l3miss: false,
          udpChecksum: false,
          zeroChecksum6Send: true,
          zeroChecksum6Receive: true,
        },
      }),
      // iproute2 writes them in the order of its arguments, some of them at the end.
      sortedLink,
    ],
    ['ip link add name dummy0 type dummy', newLink({ name: 'dummy0', config: { kind: 'dummy' } })],
    ['ip link add name br0 type bridge', newLink({ name: 'br0', config: { kind: 'bridge' } })],
    ['ip link set dev vx0 mtu 1450 up', setLink({ index: VX0 }, { mtu: 1450, up: true })],
    ['ip link set dev dummy0 master br0', setLink({ index: 6 }, { master: 7 })],
    ['ip link set dev dummy0 nomaster', setLink({ index: 6 }, { master: 0 })],
    ['ip link set dev dummy0 netns golden1', setLink({ index: 6 }, { netns: { fd: 4 } })],
    ['ip link set dev br0 down', setLink({ index: 7 }, { up: false })],
    ['ip link set dev br0 name br1', setLink({ index: 7 }, { name: 'br1' })],
    ['ip link show dev vx0', getLink({ name: 'vx0' }), linkLookup],
    ['ip link show dev a-name-longer-than-fifteen', getLink({ altName: 'a-name-longer-than-fifteen' }), linkLookup],
    ['ip -d link show', dumpLinks(), linkLookup],
    ['ip -d link show type vxlan', dumpLinks({ kind: 'vxlan' }), (payload) => sortedLink(linkLookup(payload))],
    ['ip link del dev lo', deleteLink({ index: 1 })],
    ['ip netns set golden1 7', newNetnsId({ fd: 6 }, 7)],
    ['ip netns list-id', getNetnsId({ fd: 6 })],
    ['ip netns list-id', dumpNetnsIds()],
  ]);
});

describe('addresses', () => {
  compare('rtnetlink', [
    ['ip address add 10.255.1.0/32 dev vx0', newAddress({ index: VX0, address: '10.255.1.0', prefix: 32 })],
    [
      'ip address add fd77:0:0:1::/128 dev vx0 nodad',
      newAddress({ index: VX0, address: 'fd77:0:0:1::', prefix: 128, flags: IFA_F_NODAD }),
    ],
    [
      'ip address add 10.9.0.1 peer 10.9.0.2/32 dev vx0',
      newAddress({ index: VX0, address: '10.9.0.1', prefix: 32, peer: '10.9.0.2' }),
    ],
    [
      'ip address del 10.9.0.1 peer 10.9.0.2/32 dev vx0',
      deleteAddress({ index: VX0, address: '10.9.0.1', prefix: 32, peer: '10.9.0.2' }),
    ],
    ['ip address show', dumpAddresses()],
    ['ip address show dev vx0', dumpAddresses({ index: VX0 })],
  ]);
});

describe('routes', () => {
  const base = { protocol: 109, index: VX0 };
  compare('rtnetlink', [
    [
      'ip route add 10.255.2.0/24 via 10.255.2.0 dev vx0 onlink proto 109',
      newRoute({ ...base, destination: '10.255.2.0/24', via: '10.255.2.0', onlink: true }),
    ],
    [
      'ip route add default via 10.255.2.0 dev vx0 onlink proto 109 table 100002',
      newRoute({ ...base, destination: '0.0.0.0/0', via: '10.255.2.0', onlink: true, table: 100_002 }),
    ],
    [
      'ip route add 10.255.1.2/32 dev veth0 proto 109 src 10.255.1.0',
      newRoute({ protocol: 109, index: VETH0, destination: '10.255.1.2/32', source: '10.255.1.0' }),
    ],
    [
      'ip route add local 10.77.255.0/24 dev lo proto 109',
      newRoute({ protocol: 109, index: 1, type: 'local', destination: '10.77.255.0/24' }),
    ],
    [
      'ip route replace 10.255.1.5/32 dev veth0 proto 109 metric 5',
      newRoute({ protocol: 109, index: VETH0, destination: '10.255.1.5/32', priority: 5 }, 'replace'),
    ],
    [
      'ip -6 route add fd77:0:0:2::/64 via fd77:0:0:2:: dev vx0 onlink proto 109',
      newRoute({ ...base, destination: 'fd77:0:0:2::/64', via: 'fd77:0:0:2::', onlink: true }),
    ],
    [
      'ip -6 route add default via fd77:0:0:2:: dev vx0 onlink proto 109 table 100002',
      newRoute({ ...base, destination: '::/0', via: 'fd77:0:0:2::', onlink: true, table: 100_002 }),
    ],
    [
      'ip -6 route add local fd77:0:0:ff::/64 dev lo proto 109',
      newRoute({ protocol: 109, index: 1, type: 'local', destination: 'fd77:0:0:ff::/64' }),
    ],
    [
      'ip route add 10.10.0.0/16 via inet6 fe80::1 dev veth0 proto 109',
      newRoute({ protocol: 109, index: VETH0, destination: '10.10.0.0/16', via: 'fe80::1' }),
    ],
    ['ip route show table 100002', dumpRoutes({ family: 'inet', table: 100_002 })],
    ['ip route show table all proto 109', dumpRoutes({ protocol: 109 })],
    ['ip -6 route show table all proto 109', dumpRoutes({ family: 'inet6', protocol: 109 })],
    [
      'ip route del 10.255.1.2/32 dev veth0 proto 109',
      deleteRoute({ protocol: 109, index: VETH0, destination: '10.255.1.2/32' }),
    ],
    [
      'ip route del default table 100002 proto 109',
      deleteRoute({ protocol: 109, destination: '0.0.0.0/0', table: 100_002 }),
    ],
  ]);
});

describe('route lookups', () => {
  const PEER0 = 2;
  const sorted = (payload: Payload) => normalize(payload, 12);
  const transport = { protocol: 'tcp', sourcePort: 8080, destinationPort: 40_000 } as const;
  const answer = { destination: '192.0.2.77', source: '10.252.1.2', inputIndex: PEER0 };
  compare('rtnetlink', [
    [
      'ip route get 192.0.2.77 from 10.252.1.2 iif peer0 mark 0x1000000 ipproto tcp sport 8080 dport 40000',
      getRoute({ ...answer, mark: 0x100_0000, transport }),
      sorted,
    ],
    ['ip route get 192.0.2.77 from 192.0.2.1', getRoute({ destination: '192.0.2.77', source: '192.0.2.1' })],
    ['ip -6 route get fd30::77 from fd30::1', getRoute({ destination: 'fd30::77', source: 'fd30::1' })],
    ['ip route get 192.0.2.77 from 10.252.1.2 iif peer0', getRoute(answer)],
  ]);
});

describe('rules', () => {
  const rule = { family: 'inet', fwmark: 5, action: { lookup: 100_005 }, priority: 10_005, protocol: 109 } as const;
  /** iproute2 writes the attributes in the order of its arguments. */
  const sorted = (payload: Payload) => normalize(payload, 12);
  const marked = { fwmask: 0x3f00_0000, protocol: 109 } as const;
  const answers = {
    ...marked,
    family: 'inet',
    priority: 7,
    source: '10.252.1.2/32',
    destination: '192.0.2.0/24',
    fwmark: 0x100_0000,
    ipProtocol: 6,
    sourcePorts: { from: 8080, to: 8080 },
    destinationPorts: { from: 1000, to: 2000 },
    suppressPrefix: 0,
    action: { lookup: 100 },
  } as const;
  compare('rtnetlink', [
    ['ip rule add fwmark 5 lookup 100005 priority 10005 protocol 109', newRule(rule)],
    ['ip -6 rule add fwmark 5 lookup 100005 priority 10005 protocol 109', newRule({ ...rule, family: 'inet6' })],
    [
      'ip rule add fwmark 0x100/0xff00 goto 20000 priority 10001',
      newRule({ family: 'inet', fwmark: 0x100, fwmask: 0xff00, action: { goto: 20_000 }, priority: 10_001 }),
    ],
    ['ip rule add nop priority 20000', newRule({ family: 'inet', action: 'nop', priority: 20_000 })],
    ['ip rule del fwmark 5 lookup 100005 priority 10005 protocol 109', deleteRule(rule), ruleDelete],
    [
      'ip rule add from 10.252.1.2 to 192.0.2.0/24 fwmark 0x1000000/0x3f000000 ipproto tcp sport 8080 dport 1000-2000 lookup 100 suppress_prefixlength 0 priority 7 protocol 109',
      newRule(answers),
      sorted,
    ],
    [
      'ip rule del from 10.252.1.2 to 192.0.2.0/24 fwmark 0x1000000/0x3f000000 ipproto tcp sport 8080 dport 1000-2000 lookup 100 suppress_prefixlength 0 priority 7 protocol 109',
      deleteRule(answers),
      (payload) => sorted(ruleDelete(payload)),
    ],
    [
      'ip -6 rule add from fd77::2 fwmark 0x2000000/0x3f000000 unreachable priority 8 protocol 109',
      newRule({
        ...marked,
        family: 'inet6',
        source: 'fd77::2/128',
        fwmark: 0x200_0000,
        priority: 8,
        action: 'unreachable',
      }),
      sorted,
    ],
    ['ip rule show', dumpRules('inet')],
    ['ip -6 rule show', dumpRules('inet6')],
  ]);
});

describe('neighbours and forwarding table', () => {
  const base = { index: VX0, address: '10.255.2.0' };
  compare('rtnetlink', [
    [
      'ip neighbour add 10.255.2.0 lladdr 02:6d:65:73:00:02 dev vx0 nud permanent',
      newNeighbour({ ...base, mac: mac(2) }),
    ],
    [
      'ip neighbour replace 10.255.2.0 lladdr 02:6d:65:73:00:03 dev vx0 nud permanent',
      newNeighbour({ ...base, mac: mac(3) }, 'replace'),
    ],
    [
      'ip neighbour add fd77:0:0:2:: lladdr 02:6d:65:73:00:02 dev vx0 nud permanent',
      newNeighbour({ index: VX0, address: 'fd77:0:0:2::', mac: mac(2) }),
    ],
    ['ip neighbour del fd77:0:0:2:: dev vx0', deleteNeighbour({ index: VX0, address: 'fd77:0:0:2::' })],
    ['ip neighbour show', dumpNeighbours()],
    ['ip neighbour show dev vx0', dumpNeighbours({ index: VX0 })],
    ['bridge fdb add 02:6d:65:73:00:02 dev vx0 dst 172.30.0.2', newFdb({ index: VX0, mac: mac(2), dst: '172.30.0.2' })],
    [
      'bridge fdb replace 02:6d:65:73:00:02 dev vx0 dst 172.30.0.22',
      newFdb({ index: VX0, mac: mac(2), dst: '172.30.0.22' }, 'replace'),
    ],
    [
      'bridge fdb append 00:00:00:00:00:00 dev vx6 dst fd30::2',
      newFdb({ index: 5, mac: '00:00:00:00:00:00', dst: 'fd30::2' }, 'append'),
    ],
    [
      'bridge fdb del 02:6d:65:73:00:02 dev vx0 dst 172.30.0.22',
      deleteFdb({ index: VX0, mac: mac(2), dst: '172.30.0.22' }),
    ],
    ['bridge fdb show', dumpFdb()],
    ['bridge fdb show dev vx0', dumpFdb({ index: VX0 })],
  ]);
});

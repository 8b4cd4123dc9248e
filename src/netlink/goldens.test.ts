import { describe, expect, it } from 'vitest';
import { goldenOf, readGoldens } from '../../test/goldens/read.ts';
import { deleteAddress, dumpAddresses, IFA_F_NODAD, newAddress } from './address.ts';
import { Attributes, AttributeWriter } from './attributes.ts';
import { getGenlFamily } from './genetlink.ts';
import * as ipset from './ipset.ts';
import * as ipvs from './ipvs.ts';
import { deleteDestination, dumpDestinations, newDestination, setDestination } from './ipvs-destination.ts';
import { deleteLink, dumpLinks, getLink, newLink, setLink } from './link.ts';
import { encodeBatch, encodeMessage, type NetlinkMessage, type NetlinkRequest, NLM_F_ACK } from './message.ts';
import { deleteFdb, deleteNeighbour, dumpFdb, dumpNeighbours, newFdb, newNeighbour } from './neighbour.ts';
import { dumpNetnsIds, getNetnsId, newNetnsId } from './netns-id.ts';
import { deleteRoute, dumpRoutes, newRoute } from './route.ts';
import { deleteRule, dumpRules, newRule } from './rule.ts';
import { dumpListeners } from './sock-diag.ts';

type Payload = Uint8Array;

/** Payload with the attributes after `header` bytes in the order of their type, and changed by `edit` (null drops). */
function normalised(
  payload: Payload,
  header: number,
  edit: (type: number, value: Payload) => Payload | null = (_type, value) => value,
): Payload {
  const writer = new AttributeWriter().raw(payload.subarray(0, header));
  const attributes = new Attributes(payload, header).list().sort((a, b) => a.type - b.type);
  for (const { type, bytes } of attributes) {
    const value = edit(type, bytes);
    if (value !== null) writer.put(type, value);
  }
  return writer.finish();
}

/** Deep: sorts the attributes inside IFLA_LINKINFO (18) and IFLA_INFO_DATA (2) too. */
const sortedLink = (payload: Payload) =>
  normalised(payload, 16, (type, value) =>
    type === 18 ? normalised(value, 0, (inner, data) => (inner === 2 ? normalised(data, 0) : data)) : value,
  );

/**
 * Looking up a link: iproute2 asks for SR-IOV functions as well (RTEXT_FILTER_VF), sometimes puts the mask first, and
 * sends AF_PACKET, which the kernel ignores.
 */
const linkLookup = (payload: Payload) => {
  const own = payload.slice();
  own[0] = 0;
  return normalised(own, 16, (type, value) => (type === 29 ? Uint8Array.of(8, 0, 0, 0) : value));
};

/** Deleting a rule: iproute2 leaves the action open, we name it, so that no other rule can be meant. */
const ruleDelete = (payload: Payload) => payload.with(7, 0);

/** Creating a hash set: ipset asks for the newest revision it and the kernel know, we for the first with skbinfo. */
const revision = (payload: Payload) => normalised(payload, 4, (type, value) => (type === 4 ? Uint8Array.of(0) : value));

/**
 * ipvsadm sends the whole of its structs even where only the identity counts (settings of the service with a real
 * server or a delete; scheduler to DEST_NETMASK), and the tunnel attributes (13-15) which are 0 here.
 */
const ipvsKeyOnly = (payload: Payload) =>
  normalised(payload, 4, (type, value) => {
    if (type === 1) return normalised(value, 0, (inner, data) => (inner >= 6 && inner <= 9 ? null : data));
    return type === 2 ? normalised(value, 0, (inner, data) => (inner >= 13 ? null : data)) : value;
  });
const ipvsDelete = (payload: Payload) =>
  normalised(ipvsKeyOnly(payload), 4, (type, value) =>
    type === 2 ? normalised(value, 0, (inner, data) => (inner >= 3 && inner <= 6 ? null : data)) : value,
  );

/** Sequence numbers and port ids differ by nature; tools ask every message for an ACK, we the last of a batch. */
function expectSame(
  sent: NetlinkMessage | undefined,
  request: NetlinkRequest,
  normalise = (payload: Payload) => payload,
): void {
  expect(sent).toBeDefined();
  expect(request.type).toBe(sent!.type);
  expect((request.flags | NLM_F_ACK).toString(16)).toBe((sent!.flags | NLM_F_ACK).toString(16));
  const hex = (payload: Payload) => Buffer.from(normalise(payload)).toString('hex');
  expect(hex(request.payload)).toBe(hex(sent!.payload));
}

/** Command, our request, normalisation where the tool's bytes legitimately differ. Messages are found by type, the last one counts. */
type Case = [string, NetlinkRequest, ((payload: Payload) => Payload)?];

function compare(name: Parameters<typeof readGoldens>[0], cases: Case[]): void {
  const goldens = readGoldens(name);
  it.each(cases)('%s', (command, request, normalise) => {
    // Feature probes have sequence 0; a dump is told from a lookup of the same type by its flags.
    const dump = (flags: number) => (flags & 0x300) === 0x300;
    const sent = goldenOf(goldens, command).sent.filter(
      (message) =>
        message.type === request.type && message.sequence !== 0 && dump(message.flags) === dump(request.flags),
    );
    expectSame(sent.at(-1), request, normalise);
  });
}

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
      // iproute2 writes them in the order of its arguments, some of them late.
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

describe('rules', () => {
  const rule = { family: 'inet', fwmark: 5, action: { lookup: 100_005 }, priority: 10_005, protocol: 109 } as const;
  compare('rtnetlink', [
    ['ip rule add fwmark 5 lookup 100005 priority 10005 protocol 109', newRule(rule)],
    ['ip -6 rule add fwmark 5 lookup 100005 priority 10005 protocol 109', newRule({ ...rule, family: 'inet6' })],
    [
      'ip rule add fwmark 0x100/0xff00 goto 20000 priority 10001',
      newRule({ family: 'inet', fwmark: 0x100, fwmask: 0xff00, action: { goto: 20_000 }, priority: 10_001 }),
    ],
    ['ip rule add nop priority 20000', newRule({ family: 'inet', action: 'nop', priority: 20_000 })],
    ['ip rule del fwmark 5 lookup 100005 priority 10005 protocol 109', deleteRule(rule), ruleDelete],
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

describe('ipset', () => {
  const range = { from: 0, to: 65_535 };
  const svc = { name: 'svc-tcp', type: 'bitmap:port', range, skbinfo: true } as const;
  const full = (mark: number, mask = 0xffff_ffff) => ({ mark, mask });
  compare('ipset', [
    [
      'ipset create pub-tcp bitmap:port range 0-65535',
      ipset.createSet({ name: 'pub-tcp', type: 'bitmap:port', range }),
    ],
    ['ipset create svc-tcp bitmap:port range 0-65535 skbinfo', ipset.createSet(svc)],
    ['ipset -exist create svc-tcp bitmap:port range 0-65535 skbinfo', ipset.createSet(svc, 'ensure')],
    ['ipset create vip hash:ip skbinfo', ipset.createSet({ name: 'vip', type: 'hash:ip', skbinfo: true }), revision],
    [
      'ipset create vip6 hash:ip family inet6 hashsize 64 maxelem 1000 skbinfo',
      ipset.createSet({
        name: 'vip6',
        type: 'hash:ip',
        family: 'inet6',
        hashSize: 64,
        maxElements: 1000,
        skbinfo: true,
      }),
      revision,
    ],
    ['ipset create nets hash:net', ipset.createSet({ name: 'nets', type: 'hash:net' }), revision],
    ['ipset create dests hash:ip,port', ipset.createSet({ name: 'dests', type: 'hash:ip,port' }), revision],
    ['ipset create hair hash:net,net', ipset.createSet({ name: 'hair', type: 'hash:net,net' }), revision],
    ['ipset create svc-tcp bitmap:port range 0-65535 skbinfo', ipset.getSetType('bitmap:port')],
    ['ipset add pub-tcp 8080', ipset.addEntry('pub-tcp', { port: 8080 })],
    ['ipset add pub-tcp 8080', ipset.getSetHeader('pub-tcp')],
    ['ipset -exist add pub-tcp 8080', ipset.addEntry('pub-tcp', { port: 8080 }, 'ensure')],
    ['ipset add svc-tcp 8080 skbmark 0x11f90', ipset.addEntry('svc-tcp', { port: 8080, skbMark: full(0x11f90) })],
    [
      'ipset add svc-tcp 8081 skbmark 0x11f91/0xffff',
      ipset.addEntry('svc-tcp', { port: 8081, skbMark: full(0x11f91, 0xffff) }),
    ],
    [
      'ipset add vip 10.77.255.7 skbmark 0x50007',
      ipset.addEntry('vip', { address: '10.77.255.7', skbMark: full(0x50007) }),
    ],
    ['ipset add vip6 fd77::7 skbmark 0x50008', ipset.addEntry('vip6', { address: 'fd77::7', skbMark: full(0x50008) })],
    ['ipset add nets 10.0.0.0/8', ipset.addEntry('nets', { address: '10.0.0.0', prefix: 8 })],
    ['ipset add nets 10.1.0.0/16 nomatch', ipset.addEntry('nets', { address: '10.1.0.0', prefix: 16, noMatch: true })],
    ['ipset add dests 10.1.2.3,udp:53', ipset.addEntry('dests', { address: '10.1.2.3', protocol: 'udp', port: 53 })],
    ['ipset add hair 10.77.1.5,10.77.1.5', ipset.addEntry('hair', { address: '10.77.1.5', address2: '10.77.1.5' })],
    [
      'ipset add hair 10.77.0.0/16,10.78.0.0/16',
      ipset.addEntry('hair', { address: '10.77.0.0', prefix: 16, address2: '10.78.0.0', prefix2: 16 }),
    ],
    ['ipset test pub-tcp 8080', ipset.testEntry('pub-tcp', { port: 8080 })],
    ['ipset del pub-tcp 8080', ipset.deleteEntry('pub-tcp', { port: 8080 })],
    [
      'ipset restore',
      ipset.addEntries(
        'nets',
        [2, 3, 2, 4].map((n) => ({ address: `10.${n}.0.0`, prefix: 16 })),
      )[0]!,
    ],
    ['ipset list', ipset.dumpSets()],
    ['ipset list svc-tcp', ipset.dumpSets({ name: 'svc-tcp' })],
    ['ipset list -terse big', ipset.dumpSets({ name: 'big', headerOnly: true })],
    ['ipset list -name', ipset.dumpSetNames()],
    ['ipset flush pub-tcp', ipset.flushSet('pub-tcp')],
    ['ipset destroy hair', ipset.destroySet('hair')],
  ]);
});

describe('IPVS', () => {
  const genl = readGoldens('ipvs')[0]!.sent.at(-1)!.type;
  const mark = { family: 'inet', fwmark: 73_616 } as const;
  const mark6 = { family: 'inet6', fwmark: 73_616 } as const;
  const web = { protocol: 'tcp', address: '10.0.0.1', port: 80 } as const;
  const first = { address: '10.255.2.5', port: 80 };
  const second = { address: '10.255.3.6', port: 80 };
  compare('ipvs', [
    ['ipvsadm -A -f 73616 -s rr', getGenlFamily('IPVS')],
    ['ipvsadm -A -f 73616 -s rr', ipvs.newService(genl, mark, { scheduler: 'rr' })],
    ['ipvsadm -A -f 73616 -6 -s wlc', ipvs.newService(genl, mark6, { scheduler: 'wlc' })],
    [
      'ipvsadm -A -t 10.0.0.1:80 -s wrr -p 300 -M 255.255.255.0',
      ipvs.newService(genl, web, {
        scheduler: 'wrr',
        flags: ipvs.IP_VS_SVC_F_PERSISTENT,
        timeout: 300,
        persistencePrefix: 24,
      }),
    ],
    [
      'ipvsadm -A -u 10.0.0.1:53 -s rr -o',
      ipvs.newService(
        genl,
        { protocol: 'udp', address: '10.0.0.1', port: 53 },
        { scheduler: 'rr', flags: ipvs.IP_VS_SVC_F_ONEPACKET },
      ),
    ],
    [
      'ipvsadm -A -t [fd77::1]:443 -s mh',
      ipvs.newService(genl, { protocol: 'tcp', address: 'fd77::1', port: 443 }, { scheduler: 'mh' }),
    ],
    ['ipvsadm -E -f 73616 -s wrr', ipvs.setService(genl, mark, { scheduler: 'wrr' })],
    ['ipvsadm -D -f 73616 -6', ipvs.deleteService(genl, mark6), ipvsKeyOnly],
    ['ipvsadm -L -n -f 73616', ipvs.getService(genl, mark), ipvsKeyOnly],
    ['ipvsadm -a -f 73616 -r 10.255.2.5:80 -m -w 1', newDestination(genl, mark, first, { weight: 1 }), ipvsKeyOnly],
    [
      'ipvsadm -a -f 73616 -r 10.255.3.6:80 -m -w 3 -x 100 -y 50',
      newDestination(genl, mark, second, { weight: 3, upperThreshold: 100, lowerThreshold: 50 }),
      ipvsKeyOnly,
    ],
    [
      'ipvsadm -a -f 73616 -6 -r [fd77:0:0:2::5]:80 -m -w 1',
      newDestination(genl, mark6, { address: 'fd77:0:0:2::5', port: 80 }, { weight: 1 }),
      ipvsKeyOnly,
    ],
    [
      'ipvsadm -a -t 10.0.0.1:80 -r 10.255.2.7 -g -w 2',
      newDestination(genl, web, { address: '10.255.2.7', port: 80 }, { weight: 2, forwarding: 'route' }),
      ipvsKeyOnly,
    ],
    [
      'ipvsadm -a -t 10.0.0.1:80 -r 10.255.2.8 -i -w 2',
      newDestination(genl, web, { address: '10.255.2.8', port: 80 }, { weight: 2, forwarding: 'tunnel' }),
      ipvsKeyOnly,
    ],
    ['ipvsadm -e -f 73616 -r 10.255.2.5:80 -m -w 0', setDestination(genl, mark, first, { weight: 0 }), ipvsKeyOnly],
    ['ipvsadm -d -f 73616 -r 10.255.3.6:80', deleteDestination(genl, mark, second), ipvsDelete],
    ['ipvsadm -L -n', dumpDestinations(genl, mark6)],
    ['ipvsadm --set 900 120 300', ipvs.setConfig(genl, { tcp: 900, tcpFin: 120, udp: 300 })],
    ['ipvsadm -L --timeout', ipvs.getConfig(genl)],
    ['ipvsadm -Z', ipvs.zeroCounters(genl)],
    ['ipvsadm -Z -f 73616', ipvs.zeroCounters(genl, mark), ipvsKeyOnly],
    ['ipvsadm -C', ipvs.flushServices(genl)],
  ]);

  it('ipvsadm begins with GET_INFO and lists services by a dump', () => {
    const goldens = readGoldens('ipvs');
    const [info] = goldens[0]!.sent.filter((message) => message.payload[0] === ipvs.IPVS_CMD.getInfo);
    expectSame(info, ipvs.getInfo(genl));
    const [services] = goldenOf(goldens, 'ipvsadm -L -n').sent.filter(
      (message) => message.payload[0] === ipvs.IPVS_CMD.getService,
    );
    expectSame(services, ipvs.dumpServices(genl));
  });
});

describe('sockets', () => {
  compare('sock-diag', [
    ['ss -ltn4', dumpListeners('tcp', 'inet')],
    ['ss -ltn6', dumpListeners('tcp', 'inet6')],
    ['ss -lun4', dumpListeners('udp', 'inet')],
    ['ss -lun6', dumpListeners('udp', 'inet6')],
  ]);
});

describe('message headers', () => {
  it('are those of the tools, with their sequence number and flags', () => {
    for (const golden of readGoldens('ipset')) {
      for (const message of golden.sent) {
        const bytes = encodeMessage(message, message.sequence, message.portId);
        expect(golden.datagrams.some((datagram) => Buffer.from(datagram).equals(bytes))).toBe(true);
        expect(encodeBatch([message], message.sequence, { ack: 'none' })).toEqual(bytes);
      }
    }
  });
});

import { describe, expect, it } from 'vitest';
import { goldenOf, readGoldens } from '../../test/goldens/read.ts';
import type { Result } from '../base/errors.ts';
import { decodeAddress } from './address.ts';
import { decodeGenlFamily } from './genetlink.ts';
import { collectSets, decodeFailedEntry, decodeSetPart, decodeSetType } from './ipset.ts';
import { decodeConfig, decodeInfo, decodeService, IPVS_CMD } from './ipvs.ts';
import { decodeDestination } from './ipvs-destination.ts';
import { decodeLink } from './link.ts';
import { decodeAck, type NetlinkMessage, NLMSG_DONE, NLMSG_ERROR } from './message.ts';
import { decodeFdb, decodeNeighbour, isFdb } from './neighbour.ts';
import { decodeNetnsId } from './netns-id.ts';
import { decodeRoute } from './route.ts';
import { decodeRule } from './rule.ts';
import { decodeSocket } from './sock-diag.ts';

/** The decoded replies of the kernel to a command, without ACKs and messages on other subjects. */
function decodedReplies<T>(
  file: Parameters<typeof readGoldens>[0],
  command: string,
  type: number | undefined,
  decode: (message: NetlinkMessage) => Result<T>,
): T[] {
  const { received } = goldenOf(readGoldens(file), command);
  const messages = received.filter((message) =>
    type === undefined ? message.type > NLMSG_DONE : message.type === type,
  );
  expect(messages.length).toBeGreaterThan(0);
  return messages.map((message) => {
    const result = decode(message);
    if (!result.ok) throw result.error;
    return result.value;
  });
}

describe('rtnetlink replies', () => {
  it('links', () => {
    const links = decodedReplies('rtnetlink', 'ip -d link show', 16, decodeLink);
    expect(links.map(({ index, name, kind, up }) => [index, name, kind, up])).toEqual([
      [1, 'lo', undefined, true],
      [2, 'veth0', 'veth', false],
      [4, 'vx0', 'vxlan', true],
      [5, 'vx6', 'vxlan', false],
      [7, 'br1', 'bridge', false],
    ]);
    expect(links[1]).toMatchObject({ mtu: 1450, mac: '02:00:00:00:00:01', linkIndex: 2, linkNetnsId: 0 });
    expect(links[2]).toMatchObject({ mtu: 1450, altNames: ['a-name-longer-than-fifteen'] });
    expect(links[2]?.vxlan).toMatchObject({ vni: 4096, local: '172.30.0.1', port: 4789, learning: false, gbp: true });
    expect(links[3]?.vxlan).toMatchObject({
      vni: 4097,
      group: 'ff05::100',
      local: 'fd30::1',
      link: 2,
      ttl: 16,
      tos: 4,
      ageing: 77,
      limit: 99,
      sourcePorts: { from: 2000, to: 3000 },
      port: 4790,
      learning: true,
      udpChecksum: false,
      zeroChecksum6Send: true,
      zeroChecksum6Receive: true,
    });
    expect(links[3]?.vxlan?.local).toBe('fd30::1');
  });

  it('one link by name and by alternative name', () => {
    for (const name of ['vx0', 'a-name-longer-than-fifteen']) {
      const links = decodedReplies('rtnetlink', `ip link show dev ${name}`, 16, decodeLink);
      expect(links.at(-1)).toMatchObject({ index: 4, name: 'vx0', master: undefined });
    }
  });

  it('netns ids', () => {
    expect(decodedReplies('rtnetlink', 'ip netns list-id', 88, decodeNetnsId)).toEqual([
      { id: 0 },
      { id: -1 },
      { id: 0 },
    ]);
  });

  it('addresses', () => {
    const addresses = decodedReplies('rtnetlink', 'ip address show', 20, decodeAddress);
    expect(addresses).toContainEqual({
      index: 4,
      family: 'inet',
      address: '10.9.0.1',
      prefix: 32,
      peer: '10.9.0.2',
      scope: 0,
      flags: 0x80,
      label: 'vx0',
    });
    expect(addresses).toContainEqual({
      index: 4,
      family: 'inet6',
      address: 'fd77:0:0:1::',
      prefix: 128,
      peer: undefined,
      scope: 0,
      flags: 0x82,
      label: undefined,
    });
  });

  it('routes', () => {
    const routes = decodedReplies('rtnetlink', 'ip route show table all proto 109', 24, decodeRoute);
    const unicast = { type: 'unicast', protocol: 109, scope: 'global', nextHops: 1, cloned: false };
    expect(routes).toHaveLength(10);
    expect(routes[0]).toMatchObject({
      ...unicast,
      destination: '0.0.0.0/0',
      table: 100_002,
      via: '10.255.2.0',
      onlink: true,
    });
    expect(routes[1]).toMatchObject({
      destination: '10.8.0.0/16',
      nextHops: 2,
      index: 4,
      via: '10.255.2.0',
      onlink: true,
    });
    expect(routes[2]).toMatchObject({ destination: '10.10.0.0/16', via: 'fe80::1' });
    expect(routes[3]).toMatchObject({ destination: '10.255.1.2/32', scope: 'link', source: '10.255.1.0', index: 2 });
    expect(routes[6]).toMatchObject({ destination: '10.77.255.0/24', type: 'local', table: 255, scope: 'host' });
    expect(routes[7]).toMatchObject({
      ...unicast,
      destination: '::/0',
      table: 100_002,
      via: 'fd77:0:0:2::',
      onlink: true,
    });
    expect(routes[9]).toMatchObject({ destination: 'fd77:0:0:ff::/64', type: 'local', table: 255 });
  });

  it('looked up routes', () => {
    const answer = (command: string) => decodedReplies('rtnetlink', command, 24, decodeRoute)[0];
    const command =
      'ip route get 192.0.2.77 from 10.252.1.2 iif peer0 mark 0x1000000 ipproto tcp sport 8080 dport 40000';
    expect(answer(command)).toMatchObject({ type: 'unicast', table: 254, index: 3, via: undefined, cloned: true });
    expect(answer('ip -6 route get fd30::77 from fd30::1')).toMatchObject({ family: 'inet6', table: 254, index: 3 });
  });

  it('rules', () => {
    const rules = decodedReplies('rtnetlink', 'ip rule show', 32, decodeRule);
    const rule = { family: 'inet', protocol: 0, fwmark: 0, fwmask: 0, otherSelectors: false };
    expect(rules.slice(0, 5)).toEqual([
      { ...rule, priority: 0, action: { lookup: 255 }, protocol: 2 },
      { ...rule, priority: 3, source: '10.0.0.0/8', action: { lookup: 254 }, otherSelectors: true },
      { ...rule, priority: 10_001, fwmark: 0x100, fwmask: 0xff00, action: { goto: 20_000 } },
      { ...rule, priority: 10_005, fwmark: 5, fwmask: 0xffff_ffff, action: { lookup: 100_005 }, protocol: 109 },
      { ...rule, priority: 20_000, action: 'nop' },
    ]);
    const selecting = decodedReplies('rtnetlink', 'ip rule list', 32, decodeRule);
    expect(selecting.filter(({ otherSelectors }) => otherSelectors)).toEqual([
      {
        ...rule,
        priority: 7,
        source: '10.252.1.2/32',
        destination: '192.0.2.0/24',
        fwmark: 0x100_0000,
        fwmask: 0x3f00_0000,
        ipProtocol: 6,
        sourcePorts: { from: 8080, to: 8080 },
        destinationPorts: { from: 1000, to: 2000 },
        suppressPrefix: 0,
        action: { lookup: 100 },
        protocol: 109,
        otherSelectors: true,
      },
      {
        ...rule,
        priority: 9,
        source: '192.0.2.7/32',
        inputLink: 'lo',
        inverted: true,
        action: 'blackhole',
        otherSelectors: true,
      },
      {
        ...rule,
        priority: 10,
        source: '192.0.2.8/32',
        action: { lookup: 100 },
        otherSelectors: true,
        furtherSelectors: true,
      },
    ]);
    const [, rule6] = decodedReplies('rtnetlink', 'ip -6 rule show', 32, decodeRule);
    expect(rule6).toMatchObject({ family: 'inet6', priority: 10_005, fwmark: 5, action: { lookup: 100_005 } });
  });

  it('neighbours', () => {
    const all = decodedReplies('rtnetlink', 'ip neighbour show', 28, decodeNeighbour).filter(
      (entry) => entry.permanent,
    );
    expect(all).toEqual([
      { index: 4, family: 'inet', address: '10.255.2.0', mac: '02:6d:65:73:00:03', state: 0x80, permanent: true },
      { index: 4, family: 'inet6', address: 'fd77:0:0:2::', mac: '02:6d:65:73:00:02', state: 0x80, permanent: true },
    ]);
  });

  it('forwarding tables', () => {
    const [entry, ...rest] = decodedReplies('rtnetlink', 'bridge fdb show dev vx0', 28, decodeFdb);
    expect(rest).toEqual([]);
    expect(entry).toMatchObject({
      index: 4,
      mac: '02:6d:65:73:00:02',
      dst: '172.30.0.22',
      permanent: true,
      self: true,
    });
    const all = decodedReplies('rtnetlink', 'bridge fdb show', 28, decodeFdb);
    expect(all.map(({ dst }) => dst).filter(Boolean)).toEqual(['172.30.0.22', 'ff05::100', 'fd30::2']);
    const kinds = (command: string) => goldenOf(readGoldens('rtnetlink'), command).received.map(isFdb);
    expect(kinds('bridge fdb show dev vx0')).toContain(true);
    expect(kinds('ip neighbour show')).not.toContain(true);
  });
});

describe('acknowledgements of requests', () => {
  const last = (file: Parameters<typeof readGoldens>[0], command: string, nth = 0) => {
    const { received, sent } = goldenOf(readGoldens(file), command, nth);
    const message = received.filter(({ type }) => type === NLMSG_ERROR || type === NLMSG_DONE).at(-1)!;
    const ack = decodeAck(message);
    if (!ack.ok) throw ack.error;
    expect(ack.value.sequence).toBe(sent.at(-1)?.sequence);
    const { sequence: _, ...rest } = ack.value;
    return rest;
  };

  it.each([
    ['rtnetlink', 'ip rule add nop priority 20000', 0, { errno: 0, code: 'OK' }],
    ['rtnetlink', 'ip route get 192.0.2.77 from 10.252.1.2 iif peer0', 0, { errno: 101, code: 'ENETUNREACH' }],
    ['rtnetlink', 'ip link set dev nonesuch up', 0, { errno: 19, code: 'ENODEV' }],
    [
      'rtnetlink',
      'ip route add 10.99.0.0/16 via 192.0.2.1 proto 109',
      0,
      { errno: 101, code: 'ENETUNREACH', text: 'Nexthop has invalid gateway' },
    ],
    [
      'rtnetlink',
      'ip route add 10.255.2.0/24 via 10.255.2.0 dev vx0 onlink proto 109',
      1,
      { errno: 17, code: 'EEXIST' },
    ],
    [
      'rtnetlink',
      'ip route show table 100003',
      0,
      { errno: 2, code: 'ENOENT', text: 'ipv4: FIB table does not exist' },
    ],
    [
      'rtnetlink',
      'ip netns set golden1 7',
      0,
      { errno: 17, code: 'EEXIST', text: 'Peer netns already has a nsid assigned', offset: 20 },
    ],
    ['ipset', 'ipset create svc-tcp bitmap:port range 0-65535 skbinfo', 1, { errno: 17, code: 'EEXIST' }],
    ['ipset', 'ipset add pub-tcp 8080', 1, { errno: 4103, code: 'IPSET_ERR_EXIST' }],
    ['ipset', 'ipset del pub-tcp 8080', 1, { errno: 4103, code: 'IPSET_ERR_EXIST' }],
    ['ipset', 'ipset test pub-tcp 8081', 0, { errno: 4103, code: 'IPSET_ERR_EXIST' }],
    ['ipset', 'ipset add small 11', 0, { errno: 4352, code: 'IPSET_ERR_TYPE_SPECIFIC+0' }],
    ['ipset', 'ipset list nonesuch', 0, { errno: 2, code: 'ENOENT' }],
    ['ipset', 'ipset destroy svc-tcp', 0, { errno: 4100, code: 'IPSET_ERR_BUSY' }],
    ['ipvs', 'ipvsadm -A -f 73616 -s rr', 1, { errno: 17, code: 'EEXIST' }],
    ['ipvs', 'ipvsadm -A -f 9 -s nonesuch', 0, { errno: 2, code: 'ENOENT' }],
    ['ipvs', 'ipvsadm -D -f 77', 0, { errno: 3, code: 'ESRCH' }],
    ['ipvs', 'ipvsadm -e -f 73616 -r 10.255.2.9:80 -m -w 0', 0, { errno: 2, code: 'ENOENT' }],
  ] as const)('%s: %s (%i)', (file, command, nth, expected) => {
    expect(last(file, command, nth)).toEqual(expected);
  });
});

describe('ipset listings', () => {
  const messages = goldenOf(readGoldens('ipset'), 'ipset list').received.filter(({ type }) => type === 0x607);

  it('join the parts of a big set', () => {
    const sets = collectSets(messages);
    if (!sets.ok) throw sets.error;
    const names = sets.value.map(({ name }) => name);
    expect(names).toEqual(['pub-tcp', 'svc-tcp', 'vip', 'vip6', 'nets', 'dests', 'hair', 'small', 'big']);
    expect(messages.length).toBeGreaterThan(names.length);
    const set = (name: string) => sets.value.find((candidate) => candidate.name === name)!;
    expect(set('pub-tcp')).toMatchObject({ type: 'bitmap:port', range: { from: 0, to: 65_535 }, skbinfo: false });
    expect(set('svc-tcp')).toMatchObject({ skbinfo: true, references: 0, family: undefined, elements: 2 });
    expect(set('svc-tcp').entries).toEqual([
      { port: 8080, skbMark: { mark: 0x11f90, mask: 0xffff_ffff } },
      { port: 8081, skbMark: { mark: 0x11f91, mask: 0xffff } },
    ]);
    expect(set('vip6')).toMatchObject({ type: 'hash:ip', family: 'inet6', hashSize: 64, maxElements: 1000 });
    expect(set('vip6').entries).toEqual([{ address: 'fd77::7', skbMark: { mark: 0x50008, mask: 0xffff_ffff } }]);
    expect(set('nets').entries).toContainEqual({ address: '10.1.0.0', prefix: 16, noMatch: true });
    expect(set('dests').entries).toEqual([{ address: '10.1.2.3', protocol: 'udp', port: 53 }]);
    expect(set('hair').entries).toContainEqual({
      address: '10.77.0.0',
      prefix: 16,
      address2: '10.78.0.0',
      prefix2: 16,
    });
    const marks = set('big').entries.map((entry) => entry.skbMark!.mark - entry.port!);
    expect(marks).toEqual(new Array(1500).fill(65_536));
  });

  it('decode both networks of an element, its protocol and the nomatch flag', () => {
    const listed = (name: string) => {
      const { received } = goldenOf(readGoldens('ipset'), `ipset list ${name}`);
      const sets = collectSets(received.filter(({ type }) => type === 0x607));
      if (!sets.ok) throw sets.error;
      return sets.value[0]!;
    };
    const udp = { protocol: 'udp', port: 53, address2: '172.30.0.1', prefix2: 32 };
    expect(listed('from')).toMatchObject({ type: 'hash:net,port,net', family: 'inet', skbinfo: false });
    expect(listed('from').entries).toEqual(
      expect.arrayContaining([
        { address: '10.0.0.0', prefix: 8, protocol: 'tcp', port: 8080, address2: '128.0.0.0', prefix2: 1 },
        { address: '10.1.2.3', prefix: 32, ...udp },
        { address: '10.2.0.0', prefix: 16, ...udp, noMatch: true },
      ]),
    );
    expect(listed('from6').entries).toEqual([
      { address: 'fd00::', prefix: 8, protocol: 'sctp', port: 9, address2: '::', prefix2: 1 },
    ]);
    expect(listed('at').entries).toEqual([{ address: '172.30.0.0', prefix: 24, protocol: 'tcp', port: 8080 }]);
  });

  it('reject a part whose first message is missing', () => {
    const sets = collectSets(messages.slice(-1));
    expect(sets.ok).toBe(false);
  });

  it('contain names or headers only, if requested', () => {
    const names = decodedReplies('ipset', 'ipset list -name', 0x607, decodeSetPart).map(({ name, header }) => [
      name,
      header,
    ]);
    expect(names).toContainEqual(['big', undefined]);
    const [terse] = decodedReplies('ipset', 'ipset list -terse big', 0x607, decodeSetPart);
    expect(terse).toMatchObject({ name: 'big', header: { elements: 1500, type: 'bitmap:port' }, entries: [] });
    const [header] = decodedReplies('ipset', 'ipset add pub-tcp 8080', 0x60c, decodeSetPart);
    expect(header).toMatchObject({ name: 'pub-tcp', header: { type: 'bitmap:port', revision: 3 } });
    const [type] = decodedReplies('ipset', 'ipset create hair hash:net,net', 0x60d, decodeSetType);
    expect(type).toEqual({ type: 'hash:net,net', revisionMin: 0, revisionMax: 3 });
  });

  it('return the failed element of a batch', () => {
    const { received } = goldenOf(readGoldens('ipset'), 'ipset restore');
    expect(received.map(decodeFailedEntry).filter((index) => index !== undefined)).toEqual([2]);
  });
});

describe('IPVS replies', () => {
  const listed = goldenOf(readGoldens('ipvs'), 'ipvsadm -L -n').received.filter(({ type }) => type > NLMSG_DONE);
  const unwrap = <T>(result: Result<T>): T => {
    if (!result.ok) throw result.error;
    return result.value;
  };

  it('services', () => {
    const services = listed
      .filter(({ payload }) => payload[0] === IPVS_CMD.newService)
      .map((message) => unwrap(decodeService(message)));
    expect(
      services.map(({ key, scheduler, flags, timeout, persistencePrefix }) => [
        key,
        scheduler,
        flags,
        timeout,
        persistencePrefix,
      ]),
    ).toEqual([
      [{ protocol: 'tcp', address: 'fd77::1', port: 443 }, 'mh', 2, 0, 128],
      [{ protocol: 'tcp', address: '10.0.0.1', port: 80 }, 'wrr', 3, 300, 24],
      [{ protocol: 'udp', address: '10.0.0.1', port: 53 }, 'rr', 6, 0, 32],
      [{ family: 'inet6', fwmark: 73_616 }, 'wlc', 2, 0, 128],
      [{ family: 'inet', fwmark: 73_616 }, 'wrr', 2, 0, 32],
    ]);
  });

  it('real servers', () => {
    const servers = listed
      .filter(({ payload }) => payload[0] === IPVS_CMD.newDestination)
      .map((message) => unwrap(decodeDestination(message)));
    expect(servers.map(({ address, port, weight, forwarding }) => [address, port, weight, forwarding])).toEqual([
      ['10.255.2.8', 80, 2, 'tunnel'],
      ['10.255.2.7', 80, 2, 'route'],
      ['10.255.3.6', 80, 3, 'masquerade'],
      ['10.255.2.5', 80, 0, 'masquerade'],
      ['fd77:0:0:2::5', 80, 1, 'masquerade'],
    ]);
    expect(servers[2]).toMatchObject({
      upperThreshold: 100,
      lowerThreshold: 50,
      active: 0,
      inactive: 0,
      persistent: 0,
    });
  });

  it('family, info, config', () => {
    const [first] = readGoldens('ipvs');
    const id = first!.sent.at(-1)!.type;
    const family = first!.received.find(({ type, payload }) => type === 16 && payload.length > 64)!;
    expect(unwrap(decodeGenlFamily(family))).toEqual({ id, name: 'IPVS', version: 1 });
    const info = first!.received.find(({ type }) => type === id)!;
    expect(unwrap(decodeInfo(info))).toEqual({ version: '1.2.1', connectionTableSize: 4096 });
    const config = goldenOf(readGoldens('ipvs'), 'ipvsadm -L --timeout').received.at(-1)!;
    expect(unwrap(decodeConfig(config))).toEqual({ tcp: 900, tcpFin: 120, udp: 300 });
  });
});

describe('sockets', () => {
  it.each([
    ['ss -tn4 state listening', { family: 'inet', state: 'listen', address: '0.0.0.0', port: 80, v6only: false }],
    ['ss -tn6 state listening', { family: 'inet6', state: 'listen', address: '::1', port: 8080, v6only: true }],
    ['ss -lun4', { family: 'inet', state: 'close', address: '127.0.0.1', port: 53, v6only: false }],
    ['ss -lun6', { family: 'inet6', state: 'close', address: '::', port: 5353, v6only: true }],
  ])('%s', (command, expected) => {
    const sockets = decodedReplies('sock-diag', command, 20, decodeSocket);
    expect(sockets).toHaveLength(1);
    expect(sockets[0]).toMatchObject(expected);
    expect(sockets[0]?.inode).toBeGreaterThan(0);
  });
});

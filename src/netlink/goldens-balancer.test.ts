import { describe, expect, it } from 'vitest';
import { compare, expectSameRequest, normalize, type Payload } from '../../test/goldens/compare.ts';
import { goldenOf, readGoldens } from '../../test/goldens/read.ts';
import { getGenlFamily } from './genetlink.ts';
import * as ipset from './ipset.ts';
import * as ipvs from './ipvs.ts';
import { deleteDestination, dumpDestinations, newDestination, setDestination } from './ipvs-destination.ts';
import { encodeBatch, encodeMessage } from './message.ts';
import { dumpListeners, dumpSenders } from './sock-diag.ts';

/** Creating a hash set: ipset requests the newest revision supported by both sides, meshd the first with skbinfo. */
const revision = (payload: Payload) => normalize(payload, 4, (type, value) => (type === 4 ? Uint8Array.of(0) : value));

/**
 * ipvsadm sends all fields of its structs even if only the identity counts (settings of the service with a real
 * server or a delete; scheduler to DEST_NETMASK), and the tunnel attributes (13-15), which are 0 here.
 */
const ipvsKeyOnly = (payload: Payload) =>
  normalize(payload, 4, (type, value) => {
    if (type === 1) return normalize(value, 0, (inner, data) => (inner >= 6 && inner <= 9 ? null : data));
    return type === 2 ? normalize(value, 0, (inner, data) => (inner >= 13 ? null : data)) : value;
  });
const ipvsDelete = (payload: Payload) =>
  normalize(ipvsKeyOnly(payload), 4, (type, value) =>
    type === 2 ? normalize(value, 0, (inner, data) => (inner >= 3 && inner <= 6 ? null : data)) : value,
  );

describe('ipset', () => {
  const range = { from: 0, to: 65_535 };
  const svc = { name: 'svc-tcp', type: 'bitmap:port', range, skbinfo: true } as const;
  const wide = {
    address: '10.0.0.0',
    prefix: 8,
    protocol: 'tcp',
    port: 8080,
    address2: '128.0.0.0',
    prefix2: 1,
  } as const;
  const single = { address: '10.1.2.3', protocol: 'udp', port: 53, address2: '172.30.0.1' } as const;
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
    [
      'ipset create peers hash:ip maxelem 1048576',
      ipset.createSet({ name: 'peers', type: 'hash:ip', maxElements: 1_048_576 }),
      revision,
    ],
    ['ipset create at hash:net,port', ipset.createSet({ name: 'at', type: 'hash:net,port' }), revision],
    ['ipset create from hash:net,port,net', ipset.createSet({ name: 'from', type: 'hash:net,port,net' }), revision],
    [
      'ipset create from6 hash:net,port,net family inet6',
      ipset.createSet({ name: 'from6', type: 'hash:net,port,net', family: 'inet6' }),
      revision,
    ],
    ['ipset add peers 172.30.0.2', ipset.addEntry('peers', { address: '172.30.0.2' })],
    [
      'ipset add at 172.30.0.0/24,tcp:8080',
      ipset.addEntry('at', { address: '172.30.0.0', prefix: 24, protocol: 'tcp', port: 8080 }),
    ],
    ['ipset add from 10.0.0.0/8,tcp:8080,128.0.0.0/1', ipset.addEntry('from', wide)],
    ['ipset add from 10.1.2.3,udp:53,172.30.0.1', ipset.addEntry('from', single)],
    ['ipset -exist add from 10.1.2.3,udp:53,172.30.0.1', ipset.addEntry('from', single, 'ensure')],
    [
      'ipset add from 10.2.0.0/16,udp:53,172.30.0.1 nomatch',
      ipset.addEntry('from', { ...single, address: '10.2.0.0', prefix: 16, noMatch: true }),
    ],
    [
      'ipset add from6 fd00::/8,sctp:9,::/1',
      ipset.addEntry('from6', { address: 'fd00::', prefix: 8, protocol: 'sctp', port: 9, address2: '::', prefix2: 1 }),
    ],
    ['ipset del from 10.0.0.0/8,tcp:8080,128.0.0.0/1', ipset.deleteEntry('from', wide)],
  ]);
});

describe('IPVS', () => {
  const genl = readGoldens('ipvs')[0]!.sent.at(-1)!.type;
  const mark = { family: 'inet', fwmark: 73_616 } as const;
  const hashed = { family: 'inet', fwmark: 73_620 } as const;
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
    [
      'ipvsadm -A -f 73620 -s mh -b mh-fallback,mh-port -p 300 -M 255.255.255.0',
      ipvs.newService(genl, hashed, {
        scheduler: 'mh',
        flags: ipvs.schedulerBits(['mh-fallback', 'mh-port']) | ipvs.IP_VS_SVC_F_PERSISTENT,
        timeout: 300,
        persistencePrefix: 24,
      }),
    ],
    [
      'ipvsadm -A -f 73620 -6 -s sh -b sh-fallback -p 60 -M 64',
      ipvs.newService(
        genl,
        { ...hashed, family: 'inet6' },
        {
          scheduler: 'sh',
          flags: ipvs.schedulerBits(['sh-fallback']) | ipvs.IP_VS_SVC_F_PERSISTENT,
          timeout: 60,
          persistencePrefix: 64,
        },
      ),
    ],
    [
      'ipvsadm -E -f 73620 -s sh -b sh-fallback,sh-port',
      ipvs.setService(genl, hashed, { scheduler: 'sh', flags: ipvs.schedulerBits(['sh-fallback', 'sh-port']) }),
    ],
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

  it('ipvsadm starts with GET_INFO and lists services by a dump', () => {
    const goldens = readGoldens('ipvs');
    const [info] = goldens[0]!.sent.filter((message) => message.payload[0] === ipvs.IPVS_CMD.getInfo);
    expectSameRequest(info, ipvs.getInfo(genl));
    const [services] = goldenOf(goldens, 'ipvsadm -L -n').sent.filter(
      (message) => message.payload[0] === ipvs.IPVS_CMD.getService,
    );
    expectSameRequest(services, ipvs.dumpServices(genl));
  });

  it('scheduler flags are decoded as they are encoded, and other bits are preserved', () => {
    expect(ipvs.schedulerFlags('mh', 0x18)).toEqual({ flags: ['mh-fallback', 'mh-port'], rest: 0 });
    expect(ipvs.schedulerFlags('sh', 0x10)).toEqual({ flags: ['sh-port'], rest: 0 });
    expect(ipvs.schedulerFlags('rr', 0x8)).toEqual({ flags: [], rest: 0x8 });
    expect(ipvs.schedulerFlags('sh', 0x28)).toEqual({ flags: ['sh-fallback'], rest: 0x20 });
  });
});

describe('sockets', () => {
  compare('sock-diag', [
    ['ss -tn4 state listening', dumpListeners('tcp', 'inet')],
    ['ss -tn6 state listening', dumpListeners('tcp', 'inet6')],
    ['ss -lun4', dumpListeners('udp', 'inet')],
    ['ss -lun6', dumpListeners('udp', 'inet6')],
    [
      'ss -tn4 state all exclude listening sport >= :8080 and sport <= :8090',
      dumpSenders('tcp', 'inet', { first: 8080, last: 8090 }),
    ],
    ['ss -aun4 sport >= :53 and sport <= :53', dumpSenders('udp', 'inet', { first: 53, last: 53 })],
  ]);
});

describe('message headers', () => {
  it('equal those of the tools, with their sequence number and flags', () => {
    for (const golden of readGoldens('ipset')) {
      for (const message of golden.sent) {
        const bytes = encodeMessage(message, message.sequence, message.portId);
        expect(golden.datagrams.some((datagram) => Buffer.from(datagram).equals(bytes))).toBe(true);
        expect(encodeBatch([message], message.sequence, { ack: 'none' })).toEqual(bytes);
      }
    }
  });
});

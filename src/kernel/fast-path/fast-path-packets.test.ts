import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type BpfHandle,
  bpfMapEntries,
  bpfProgramInfo,
  deleteFromBpfMap,
  lookUpBpfMap,
  testBpfProgram,
  updateBpfMap,
} from '../../../native/index.ts';
import type { FastPathProgram } from '../../model/kinds/fast-path.ts';
import { portMark } from '../../model/linux-names.ts';
import { openFastPathMaps } from './fast-path-maps.ts';
import { addressBytes, loadProgram, type MapName, programConstants } from './fast-path-objects.ts';
import { probeFastPath } from './fast-path-probe.ts';
import { FIRST_FRAGMENT, FLAGS, frame, ip, LATER_FRAGMENT, PASS, type Packet, REDIRECT } from './test-packets.ts';

/** The programs on packets, in this machine's kernel (BPF_PROG_TEST_RUN); needs root. */

const OWN = '192.0.2.1';
const CLIENT = '198.51.100.9';
const TASK = '10.252.1.5';

function encodeUint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function encodeTwoUint32(first: number, second: number): Buffer {
  return Buffer.concat([encodeUint32(first), encodeUint32(second)]);
}

/** Instead of a node's number: FLOW_STANDARD_PATH in native/bpf/flow.h. */
const FLOW_STANDARD_PATH = 0xffff;

const maps = openFastPathMaps();
const programs: BpfHandle[] = [];
const mapOf = (name: MapName) => Object.assign({}, maps.mapsFor('host-in'), maps.mapsFor('router-in'))[name]!;
/** Links are ifindexes here. */
function loaded(program: FastPathProgram): BpfHandle {
  const handle = loadProgram(program, Number, maps.mapsFor(program.type));
  programs.push(handle);
  return handle;
}
const hostIn = (number: number) => loaded({ type: 'host-in', address: OWN, lb: '3', router: '4', vni: 4096, number });

afterAll(() => {
  for (const handle of programs) handle.close();
  maps.close();
});

it('this kernel supports it, and the probe reports that', async () => {
  expect(await probeFastPath()).toEqual({ possible: true, reason: expect.any(String) });
});

it.each<FastPathProgram>([
  { type: 'host-in', address: OWN, lb: '3', router: '4', vni: 4096, number: 1 },
  { type: 'host-sent', address: OWN, lb: '3' },
  { type: 'host-out', address: OWN },
  { type: 'router-in' },
  { type: 'task-out', vxlan: '2', lb: '3', number: 1 },
])('a program is recognized by its parameters, and uses the maps of the node: $type', (program) => {
  const { id, name } = bpfProgramInfo(loaded(program));
  expect(name).toBe(`mesh_${program.type.replace('-', '_')}`);
  expect(maps.constantsOf(id)).toEqual(programConstants(program, Number));
  expect(maps.constantsOf(id)).not.toEqual(programConstants({ type: 'host-out', address: CLIENT }, Number));
  expect(maps.usesNodeMaps(id)).toBe(true);
});

it('maps of an attached program are adopted, and not those of another', () => {
  const { id } = bpfProgramInfo(hostIn(7));
  const others = openFastPathMaps();
  others.adopt(id);
  others.setPort(portMark('tcp', 4711));
  expect(maps.ports()).toContain(portMark('tcp', 4711));
  maps.deletePort(portMark('tcp', 4711));
  expect(others.usesNodeMaps(id)).toBe(true);
  others.close();
  const strangers = openFastPathMaps();
  strangers.setPort(1);
  expect(strangers.usesNodeMaps(id)).toBe(false);
  strangers.close();
});

describe('host-in', () => {
  let program: BpfHandle;
  beforeAll(() => {
    program = hostIn(1);
    maps.setPort(portMark('tcp', 8080));
    maps.setPort(portMark('udp', 53));
  });
  const run = (packet: Packet, etherType?: number) => {
    const { action, mark } = testBpfProgram(program, frame(packet, etherType));
    return [action, mark];
  };
  const tcp: Packet = { protocol: 'tcp', from: CLIENT, to: OWN, ports: [40_000, 8080] };
  const udp: Packet = { protocol: 'udp', from: CLIENT, to: OWN, ports: [40_000, 53] };

  it('marks and redirects packets to published ports, first ones too', () => {
    expect(run(tcp)).toEqual([REDIRECT, portMark('tcp', 8080)]);
    expect(run({ ...tcp, flags: FLAGS.syn })).toEqual([REDIRECT, portMark('tcp', 8080)]);
    expect(run(udp)).toEqual([REDIRECT, portMark('udp', 53)]);
  });

  it.each<[string, Packet, number?]>([
    ['another port', { ...tcp, ports: [40_000, 8081] }],
    ['the same number of the other protocol', { ...tcp, ports: [40_000, 53] }],
    ['another address', { ...tcp, to: '192.0.2.2' }],
    ['a client port that the host may have chosen', { ...tcp, ports: [64_512, 8080] }],
    ['a fragment of which the first is not known', { ...udp, fragment: LATER_FRAGMENT, id: 1 }],
    ['a fragment to another port', { ...udp, ports: [40_000, 54], fragment: FIRST_FRAGMENT, id: 2 }],
    ['another family', tcp, 0x86dd],
    ['a ping', { protocol: 'icmp', from: CLIENT, to: OWN, payload: Buffer.from([8, 0, 0, 0, 0, 0, 0, 0]) }],
  ])('lets pass: %s', (_, packet, etherType) => expect(run(packet, etherType)).toEqual([PASS, 0]));

  it('redirects packets with options', () => {
    expect(run({ ...tcp, options: true })).toEqual([REDIRECT, portMark('tcp', 8080)]);
    expect(run({ ...tcp, options: true, ports: [40_000, 8081] })).toEqual([PASS, 0]);
  });

  it('redirects all fragments of a datagram, or none', () => {
    const first = (id: number, port = 53): Packet => ({ ...udp, id, ports: [40_000, port], fragment: FIRST_FRAGMENT });
    const later = (id: number): Packet => ({ ...udp, id, fragment: LATER_FRAGMENT });
    const taken = [REDIRECT, portMark('udp', 53)];
    expect([run(first(10)), run(later(10)), run(later(10))]).toEqual([taken, taken, taken]);
    // In another order, the stack has one of them already.
    expect([run(later(11)), run(first(11)), run(later(11))]).toEqual([
      [PASS, 0],
      [PASS, 0],
      [PASS, 0],
    ]);
    expect([run(first(12, 54)), run(later(12))]).toEqual([
      [PASS, 0],
      [PASS, 0],
    ]);
    // Of another client, or another protocol.
    expect(run({ ...later(10), from: '198.51.100.10' })).toEqual([PASS, 0]);
    expect(run({ ...later(10), protocol: 'tcp' })).toEqual([PASS, 0]);
    // An identification that is used again for another port.
    expect([run(first(13, 53)), run(first(13, 54)), run(later(13))]).toEqual([taken, [PASS, 0], [PASS, 0]]);
    // The end of a datagram may be shorter than a transport header.
    const end = frame(later(10)).subarray(0, 35);
    expect(testBpfProgram(program, end)).toMatchObject({ action: REDIRECT, mark: portMark('udp', 53) });
  });

  it('forwards errors about packets of published ports, and no others', () => {
    const quoting = (type: number, quoted: Packet): Packet => ({
      protocol: 'icmp',
      from: '203.0.113.1',
      to: OWN,
      payload: Buffer.concat([Buffer.from([type, 4, 0, 0, 0, 0, 0, 0]), ip(quoted)]),
    });
    const answer: Packet = { protocol: 'tcp', from: OWN, to: CLIENT, ports: [8080, 40_000] };
    for (const type of [3, 11, 12]) expect(run(quoting(type, answer))).toEqual([REDIRECT, portMark('tcp', 8080)]);
    expect(run(quoting(3, { ...answer, protocol: 'udp', ports: [53, 40_000] }))).toEqual([
      REDIRECT,
      portMark('udp', 53),
    ]);
    expect(run(quoting(5, answer))).toEqual([PASS, 0]);
    expect(run(quoting(3, { ...answer, from: '192.0.2.2' }))).toEqual([PASS, 0]);
    expect(run(quoting(3, { ...answer, ports: [40_000, 8080] }))).toEqual([PASS, 0]);
    expect(run(quoting(3, { ...answer, fragment: 10 }))).toEqual([PASS, 0]);
    expect(run(quoting(3, { ...answer, ports: [8080, 64_512] }))).toEqual([PASS, 0]);
    expect(run(quoting(3, { ...answer, protocol: 'icmp' }))).toEqual([PASS, 0]);
  });
});

describe('host-in, out of VXLAN', () => {
  const NUMBER = 0x0102;
  const VNI = 4096;
  const LBS = 4095;
  const PEER = '192.0.2.7';
  let program: BpfHandle;
  beforeAll(() => {
    program = hostIn(NUMBER);
    updateBpfMap(mapOf('mesh_peers'), addressBytes(PEER), Buffer.of(1));
  });
  const tcp: Packet = { protocol: 'tcp', from: CLIENT, to: TASK, ports: [40_000, 80] };
  const udp: Packet = { ...tcp, protocol: 'udp' };

  interface Wrapping {
    vni?: number;
    /** Group policy: the ingress node of the flow. */
    policy?: number;
    flags?: number;
    number?: number;
    etherType?: number;
    from?: string;
    to?: string;
    tos?: number;
    port?: number;
  }
  const lengthened = (packet: Buffer) => {
    packet.writeUInt16BE(packet.length, 2);
    return packet;
  };
  const wrapped = (inner: Buffer, given: Wrapping = {}) => {
    const {
      vni = VNI,
      policy,
      number = NUMBER,
      etherType = 0x0800,
      from = PEER,
      to = OWN,
      tos = 0,
      port = 4789,
    } = given;
    const vxlan = Buffer.alloc(8);
    vxlan[0] = given.flags ?? (policy === undefined ? 0x08 : 0x88);
    vxlan.writeUInt16BE(policy ?? 0, 2);
    vxlan.writeUIntBE(vni, 4, 3);
    const ethernet = Buffer.alloc(14);
    ethernet.writeUInt16BE(number, 4);
    ethernet.writeUInt16BE(etherType, 12);
    const header = Buffer.alloc(8);
    header.writeUInt16BE(50_000, 0);
    header.writeUInt16BE(port, 2);
    // VXLAN devices fill in the checksum of UDP; it does not matter here.
    header.writeUInt16BE(0xabcd, 6);
    const outer = frame({ protocol: 'udp', from, to, payload: Buffer.concat([header, vxlan, ethernet, inner]) });
    outer[15] = tos;
    return outer;
  };
  const run = (packet: Buffer) => {
    const { action, mark, packet: after } = testBpfProgram(program, packet);
    return { action, mark, after };
  };
  const passes = (packet: Buffer) => expect(run(packet)).toEqual({ action: PASS, mark: 0, after: packet });

  it.each([
    ['of a node', { policy: 300 }, 300],
    ['of one with a large number', { policy: 20_000 }, 20_000],
    ['without a policy', {}, 0],
    ['of a link with ECN and without congestion', { policy: 2, tos: 2 }, 2],
    ['to the lb, with the mark of no port', { vni: LBS }, 1],
  ])('unpacks a request %s', (_, wrapping, mark) => {
    for (const packet of [tcp, udp]) {
      const inner = lengthened(ip(packet));
      const outer = wrapped(inner, wrapping);
      // The inner packet as it was, behind the outer frame's own Ethernet header.
      expect(run(outer)).toEqual({ action: REDIRECT, mark, after: Buffer.concat([outer.subarray(0, 14), inner]) });
    }
  });

  it('unpacks long datagrams, and leaves long segments to GRO', () => {
    const long = (protocol: 'tcp' | 'udp', length: number) =>
      wrapped(lengthened(Buffer.concat([ip({ ...tcp, protocol }), Buffer.alloc(length)])));
    expect(run(long('udp', 1372)).action).toBe(REDIRECT);
    expect(run(long('tcp', 216)).action).toBe(REDIRECT);
    passes(long('tcp', 217));
  });

  const request = lengthened(ip(tcp));
  const sctp = (packet: Buffer) => {
    packet[23] = 132;
    return packet;
  };
  it.each<[string, Buffer]>([
    ['of another outer protocol', sctp(wrapped(request))],
    ['of no peer', wrapped(request, { from: '192.0.2.8' })],
    ['to another address', wrapped(request, { to: '192.0.2.2' })],
    ['to another port', wrapped(request, { port: 8472 })],
    ['of another network', wrapped(request, { vni: VNI + 1 })],
    ['of a network far away', wrapped(request, { vni: VNI * 256 })],
    ['to the VTEP of another number', wrapped(request, { number: NUMBER + 1 })],
    ['with flags of which we know nothing', wrapped(request, { flags: 0x0c })],
    ['without a VNI', wrapped(request, { flags: 0x80 })],
    ['that has met congestion', wrapped(request, { tos: 3 })],
    ['of another family', wrapped(request, { etherType: 0x86dd })],
    ['of another protocol', wrapped(lengthened(ip({ ...tcp, protocol: 'icmp' })))],
    ['with options', wrapped(lengthened(ip({ ...tcp, options: true })))],
    ['that is a fragment', wrapped(lengthened(ip({ ...tcp, fragment: 0x2000 })))],
    ['that is a later fragment', wrapped(lengthened(ip({ ...tcp, fragment: 10 })))],
    ['that ends too early', wrapped(request).subarray(0, 91)],
  ])('leaves to the VXLAN device what is %s', (_, packet) => passes(packet));
});

describe('host-out', () => {
  it('passes packets with another source, or without a route', () => {
    const program = loaded({ type: 'host-out', address: OWN });
    const packet: Packet = { protocol: 'tcp', from: OWN, to: '127.0.0.1', ports: [8080, 40_000] };
    expect(testBpfProgram(program, frame(packet)).action).toBe(PASS);
    expect(testBpfProgram(program, frame({ ...packet, from: '192.0.2.2' })).action).toBe(PASS);
  });
});

/** struct flow_key of native/bpf/flow.h; `tag` is what an alias has above its protocol. */
function flowKey(protocol: 'tcp' | 'udp', clientPort = 40_000, tag = 0): Buffer {
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(clientPort, 0);
  ports.writeUInt16BE(80, 2);
  return Buffer.concat([
    addressBytes(CLIENT),
    addressBytes(TASK),
    ports,
    encodeUint32((protocol === 'tcp' ? 6 : 17) + tag),
  ]);
}

const flowOf = (key: Buffer) => lookUpBpfMap(mapOf('mesh_flows'), key)?.readUInt16LE();
const edgeOf = (key: Buffer) => {
  const value = lookUpBpfMap(mapOf('mesh_edges'), key);
  return value && { node: value.readUInt16LE(), over: (value.readUInt32LE(4) & 3) === 3 };
};
/** What mesh_edges has, as if it had been written so many units of coarse_time earlier. */
const ageEdge = (key: Buffer, age: number, ended: number) => {
  const value = lookUpBpfMap(mapOf('mesh_edges'), key)!;
  const since = (value.readUInt32LE(4) >>> 2) - age;
  updateBpfMap(mapOf('mesh_edges'), key, encodeTwoUint32(value.readUInt32LE(), since * 4 + ended));
};
const setFlow = (key: Buffer, node: number) => updateBpfMap(mapOf('mesh_flows'), key, encodeTwoUint32(node, 0));

beforeEach(() => {
  for (const map of ['mesh_flows', 'mesh_edges'] as const) {
    const { count, keys } = bpfMapEntries(mapOf(map));
    for (let entry = 0; entry < count; entry++)
      deleteFromBpfMap(mapOf(map), keys.subarray(entry * 16, entry * 16 + 16));
  }
});

describe('router-in', () => {
  let program: BpfHandle;
  let taskProgram: BpfHandle;
  beforeAll(() => {
    program = loaded({ type: 'router-in' });
    taskProgram = loaded({ type: 'task-out', vxlan: '2', lb: '3', number: 1 });
    updateBpfMap(mapOf('mesh_tasks'), addressBytes(TASK), encodeUint32(5));
  });
  const run = (packet: Packet, node: number) => {
    const { action, mark } = testBpfProgram(program, frame(packet), node);
    return [action, mark];
  };
  const tcp: Packet = { protocol: 'tcp', from: CLIENT, to: TASK, ports: [40_000, 80] };
  const udp: Packet = { ...tcp, protocol: 'udp' };
  const fin: Packet = { ...tcp, flags: FLAGS.fin | FLAGS.ack };
  const syn: Packet = { ...tcp, flags: FLAGS.syn };
  const TAKEN = [REDIRECT, 0];

  const answer = (flags: number, port = 40_000) => {
    const packet: Packet = { ...tcp, from: TASK, to: CLIENT, ports: [80, port], flags };
    return testBpfProgram(taskProgram, frame(packet));
  };
  /** The node number in the destination MAC of a reply; 0 for this node's lb. */
  const answerTo = (flags = FLAGS.ack, port?: number) => {
    const { action, packet } = answer(flags, port);
    return action === REDIRECT ? packet.readUInt16BE(4) : undefined;
  };
  /** The client's port as the task sees it. */
  const portSeen = (packet: Packet, node: number) =>
    testBpfProgram(program, frame(packet), node).packet.readUInt16BE(34);

  const opened = (node: number) => {
    expect(run(syn, node)).toEqual(TAKEN);
    expect(answerTo(FLAGS.syn | FLAGS.ack)).toBe(node);
    expect(run(tcp, node)).toEqual(TAKEN);
    expect(edgeOf(flowKey('tcp'))).toEqual({ node, over: false });
  };
  const lasting = (node: number) => {
    opened(node);
    ageEdge(flowKey('tcp'), 5, 0);
    expect(run(tcp, node)).toEqual(TAKEN);
    expect(flowOf(flowKey('tcp'))).toBe(node);
    expect(edgeOf(flowKey('tcp'))).toBeUndefined();
  };
  const closed = (node: number) => {
    expect(run(fin, node)).toEqual(TAKEN);
    expect(answerTo(FLAGS.fin | FLAGS.ack)).toBe(node);
    expect(flowOf(flowKey('tcp'))).toBeUndefined();
    expect(edgeOf(flowKey('tcp'))).toEqual({ node, over: true });
  };

  it.each([
    ['short', opened],
    ['long', lasting],
  ])('takes all of a %s TCP flow, the last segments and the next flow of the node too', (_, begin) => {
    begin(2);
    expect(run(tcp, 2)).toEqual(TAKEN);
    expect(answerTo()).toBe(2);
    closed(2);
    expect(run(tcp, 2)).toEqual(TAKEN);
    expect(answerTo()).toBe(2);
    begin(2);
    expect(run({ ...tcp, flags: FLAGS.rst }, 2)).toEqual(TAKEN);
    expect(edgeOf(flowKey('tcp'))).toEqual({ node: 2, over: true });
    begin(2);
    expect(answerTo(FLAGS.rst)).toBe(2);
    expect(edgeOf(flowKey('tcp'))).toEqual({ node: 2, over: true });
    expect(flowOf(flowKey('tcp'))).toBeUndefined();
  });

  it('a new flow is never stored among the long-lived ones', () => {
    opened(2);
    closed(2);
    ageEdge(flowKey('tcp'), 5, 3);
    expect(run(tcp, 2)).toEqual(TAKEN);
    expect(flowOf(flowKey('tcp'))).toBeUndefined();
  });

  it('a flow that has ended one way and lasts is over when it ends the other way', () => {
    opened(2);
    expect(run(fin, 2)).toEqual(TAKEN);
    ageEdge(flowKey('tcp'), 5, 1);
    expect(run(tcp, 2)).toEqual(TAKEN);
    expect(flowOf(flowKey('tcp'))).toBe(2);
    expect(answerTo(FLAGS.fin | FLAGS.ack)).toBe(2);
    expect(flowOf(flowKey('tcp'))).toBeUndefined();
    expect(edgeOf(flowKey('tcp'))).toEqual({ node: 2, over: true });
  });

  it.each([
    ['short', opened],
    ['long', lasting],
  ])('one side alone does not end a %s connection', (_, begin) => {
    const over = () => edgeOf(flowKey('tcp'))?.over ?? false;
    begin(0);
    expect(run(fin, 0)).toEqual(TAKEN);
    expect(run(fin, 0)).toEqual(TAKEN);
    expect(run(tcp, 0)).toEqual(TAKEN);
    expect(over()).toBe(false);
    expect(run(syn, 0)).toEqual(TAKEN);
    expect(answerTo(FLAGS.fin)).toBe(0);
    expect(over()).toBe(false);
  });

  it.each(['while it begins', 'while it is new', 'while it is open', 'soon after it was over'])(
    'the same client port through another node is another flow with another port: %s',
    (when) => {
      if (when === 'while it begins') run(syn, 2);
      else if (when === 'while it is new') opened(2);
      else lasting(2);
      if (when === 'soon after it was over') closed(2);
      const alias = portSeen(syn, 3);
      expect(alias).toBeGreaterThanOrEqual(32_768);
      expect(alias).not.toBe(40_000);
      expect(portSeen(tcp, 3)).toBe(alias);
      expect(portSeen(fin, 3)).toBe(alias);
      expect(portSeen({ ...syn }, 3)).toBe(alias);
      const { action, packet } = answer(FLAGS.syn | FLAGS.ack, alias);
      expect([action, packet.readUInt16BE(4), packet.readUInt16BE(36)]).toEqual([REDIRECT, 3, 40_000]);
      // The first flow is what it was.
      expect(portSeen(tcp, 2)).toBe(40_000);
      expect(answerTo()).toBe(2);
      // And a client whose own port is the alias gets another.
      const own = portSeen({ ...syn, ports: [alias, 80] }, 2);
      expect(own).not.toBe(alias);
      expect(portSeen({ ...tcp, ports: [alias, 80] }, 2)).toBe(own);
    },
  );

  it('an alias keeps the checksum right', () => {
    opened(2);
    const sent = frame(syn);
    sent.writeUInt16BE(0x1234, 50);
    const { packet } = testBpfProgram(program, sent, 3);
    // RFC 1624: HC' = ~(~HC + ~m + m')
    const sum = (~0x1234 & 0xffff) + (~40_000 & 0xffff) + packet.readUInt16BE(34);
    expect(packet.readUInt16BE(50)).toBe(~((sum & 0xffff) + (sum >> 16)) & 0xffff);
  });

  it('minutes after a connection has ended its client port may arrive through another node', () => {
    opened(2);
    ageEdge(flowKey('tcp'), 500, 3);
    opened(3);
  });

  it('a connection whose beginning was not seen is conntrack\u2019s, and its port is taken', () => {
    expect(run(tcp, 2)).toEqual([PASS, 2]);
    expect(run(tcp, 2)).toEqual([PASS, 2]);
    expect(answerTo()).toBeUndefined();
    for (const node of [2, 3]) expect(portSeen(syn, node)).not.toBe(40_000);
    expect(run({ ...tcp, ports: [40_001, 80] }, 2)).toEqual([PASS, 2]);
  });

  it.each([
    ['short', opened],
    ['long', lasting],
  ])('a stray segment through another node does a %s flow no harm', (_, begin) => {
    begin(2);
    expect(run(tcp, 3)).toEqual([PASS, 3]);
    expect(run({ ...tcp, flags: FLAGS.rst }, 3)).toEqual([PASS, 3]);
    expect(run(tcp, 2)).toEqual(TAKEN);
    expect(answerTo()).toBe(2);
    closed(2);
  });

  it('handles UDP from the first packet; the same client port through another node is another flow', () => {
    expect(run(udp, 0)).toEqual([REDIRECT, 0]);
    expect(run(udp, 0)).toEqual([REDIRECT, 0]);
    expect(run(udp, 4)).toEqual([REDIRECT, 0]);
    expect(portSeen(udp, 4)).toBeGreaterThanOrEqual(32_768);
    expect(portSeen(udp, 4)).toBe(portSeen(udp, 4));
    expect(portSeen(udp, 0)).toBe(40_000);
  });

  it('minutes after the last datagram its client port may arrive through another node', () => {
    run(udp, 2);
    const value = lookUpBpfMap(mapOf('mesh_flows'), flowKey('udp'))!;
    updateBpfMap(mapOf('mesh_flows'), flowKey('udp'), encodeTwoUint32(2, value.readUInt32LE(4) - 500));
    expect(portSeen(udp, 3)).toBe(40_000);
    expect(flowOf(flowKey('udp'))).toBe(3);
  });

  it.each([
    ['TCP', tcp],
    ['UDP', udp],
  ])('a client port that is the alias of another flow through this node gets an alias too: %s', (_, packet) => {
    const begins = { ...packet, flags: FLAGS.syn };
    portSeen(begins, 2);
    const alias = portSeen(begins, 3);
    expect(alias).not.toBe(40_000);
    expect(portSeen({ ...begins, ports: [alias, 80] }, 3)).not.toBe(alias);
    expect(portSeen(packet, 3)).toBe(alias);
  });

  it('an alias that is used again after minutes does not take the port of another flow', () => {
    const age = (key: Buffer) => {
      const value = lookUpBpfMap(mapOf('mesh_flows'), key)!;
      updateBpfMap(mapOf('mesh_flows'), key, encodeTwoUint32(value.readUInt32LE(), value.readUInt32LE(4) - 500));
    };
    run(udp, 2);
    const alias = portSeen(udp, 3);
    age(flowKey('udp', alias));
    const other: Packet = { ...udp, ports: [alias, 80] };
    expect(portSeen(other, 2)).toBe(alias);
    expect(portSeen(udp, 3)).not.toBe(alias);
    expect(portSeen(other, 2)).toBe(alias);
  });

  it('an alias whose entry was evicted is entered again', () => {
    run(udp, 2);
    const alias = portSeen(udp, 3);
    deleteFromBpfMap(mapOf('mesh_flows'), flowKey('udp', alias));
    expect(portSeen(udp, 3)).toBe(alias);
    expect(flowOf(flowKey('udp', alias))).toBe(3);
  });

  it('leaves packets alone whose mark is not the number of a node', () => {
    for (const mark of [FLOW_STANDARD_PATH, 0x10002]) expect(run(syn, mark)).toEqual([PASS, mark]);
    expect(edgeOf(flowKey('tcp'))).toBeUndefined();
  });

  it('leaves other addresses and protocols alone', () => {
    expect(run({ ...udp, to: '10.252.1.6' }, 2)).toEqual([PASS, 2]);
    expect(run({ ...tcp, protocol: 'icmp' }, 2)).toEqual([PASS, 2]);
    expect(run({ ...udp, fragment: LATER_FRAGMENT }, 2)).toEqual([PASS, 2]);
  });
});

describe('task-out', () => {
  let program: BpfHandle;
  beforeAll(() => {
    program = loaded({ type: 'task-out', vxlan: '2', lb: '3', number: 0x0102 });
  });
  const tcp: Packet = { protocol: 'tcp', from: TASK, to: CLIENT, ports: [80, 40_000] };
  const run = (packet: Packet) => testBpfProgram(program, frame(packet));

  it('sends answers to the node that brought the flow in', () => {
    expect(run(tcp).action).toBe(PASS);
    setFlow(flowKey('tcp'), 0x0304);
    const { action, packet } = run(tcp);
    expect(action).toBe(REDIRECT);
    expect(packet.subarray(0, 12).toString('hex')).toBe('026d65730304026d65730102');
    expect(packet.subarray(12)).toEqual(frame(tcp).subarray(12));
    expect(run({ ...tcp, protocol: 'udp' }).action).toBe(PASS);
  });

  it('sends errors about a flow where its answers go', () => {
    const asked: Packet = { protocol: 'udp', from: CLIENT, to: TASK, ports: [40_000, 80] };
    const error = (quoted: Packet, type = 3): Packet => ({
      protocol: 'icmp',
      from: TASK,
      to: CLIENT,
      payload: Buffer.concat([Buffer.from([type, 3, 0, 0, 0, 0, 0, 0]), ip(quoted)]),
    });
    expect(run(error(asked)).action).toBe(PASS);
    setFlow(flowKey('udp'), 0x0304);
    const { action, packet } = run(error(asked));
    expect([action, packet.readUInt16BE(4)]).toEqual([REDIRECT, 0x0304]);
    expect(packet.subarray(12)).toEqual(frame(error(asked)).subarray(12));
    expect(run(error(asked, 0)).action).toBe(PASS);
    expect(run(error({ ...asked, ports: [40_001, 80] })).action).toBe(PASS);
    expect(run(error({ ...asked, fragment: 10 })).action).toBe(PASS);
  });

  it('and to this lb as they are', () => {
    setFlow(flowKey('udp'), 0);
    const udp: Packet = { ...tcp, protocol: 'udp' };
    const { action, packet } = run(udp);
    expect([action, packet]).toEqual([REDIRECT, frame(udp)]);
    setFlow(flowKey('udp'), FLOW_STANDARD_PATH);
    expect(run(udp).action).toBe(PASS);
  });
});

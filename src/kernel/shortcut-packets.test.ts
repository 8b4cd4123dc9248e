import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type BpfHandle,
  bpfProgramInfo,
  createBpfMap,
  deleteFromBpfMap,
  lookUpBpfMap,
  testBpfProgram,
  updateBpfMap,
} from '../../native/index.ts';
import type { Program } from '../bpf/assembler.ts';
import { hostIn } from '../bpf/host-in.ts';
import { hostOut } from '../bpf/host-out.ts';
import { addressBytes, FLOW_ANSWERED, FLOW_OPENING, FLOW_PLAIN, MAPS, type MapName } from '../bpf/maps.ts';
import { routerIn } from '../bpf/router-in.ts';
import { tags } from '../bpf/tag.ts';
import { taskOut } from '../bpf/task-out.ts';
import { portMark } from '../model/names.ts';
import { probeShortcut } from './shortcut-probe.ts';
import { loadProgram } from './shortcuts.ts';

/** The programs on packets, in this machine's kernel (BPF_PROG_TEST_RUN); needs root. */

// include/uapi/linux/pkt_cls.h
const PASS = -1;
const REDIRECT = 7;
const OWN = '192.0.2.1';
const CLIENT = '198.51.100.9';
const TASK = '10.252.1.5';
const FLAGS = { fin: 1, syn: 2, rst: 4, ack: 16 };

interface Packet {
  protocol: 'tcp' | 'udp' | 'icmp';
  from: string;
  to: string;
  ports?: [number, number];
  flags?: number;
  fragment?: number;
  options?: boolean;
  payload?: Buffer;
}

function ip({
  protocol,
  from,
  to,
  ports = [0, 0],
  flags = FLAGS.ack,
  fragment = 0,
  options = false,
  payload,
}: Packet): Buffer {
  const header = Buffer.alloc(options ? 24 : 20);
  header[0] = options ? 0x46 : 0x45;
  header.writeUInt16BE(fragment, 6);
  header[9] = { icmp: 1, tcp: 6, udp: 17 }[protocol];
  addressBytes(from).copy(header, 12);
  addressBytes(to).copy(header, 16);
  if (payload !== undefined) return Buffer.concat([header, payload]);
  const body = Buffer.alloc(protocol === 'udp' ? 8 : 20);
  body.writeUInt16BE(ports[0], 0);
  body.writeUInt16BE(ports[1], 2);
  if (protocol === 'tcp') body[13] = flags;
  return Buffer.concat([header, body]);
}

function frame(packet: Packet, etherType = 0x0800): Buffer {
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(etherType, 12);
  return Buffer.concat([ethernet, ip(packet)]);
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

const maps = new Map<MapName, BpfHandle>();
const programs: BpfHandle[] = [];
const mapOf = (name: MapName) => maps.get(name)!;
function loaded(program: Program): BpfHandle {
  const handle = loadProgram(program, (map) => mapOf(map).fd);
  programs.push(handle);
  return handle;
}

beforeAll(() => {
  for (const [name, shape] of Object.entries(MAPS)) maps.set(name as MapName, createBpfMap({ name, ...shape }));
});
afterAll(() => {
  for (const handle of [...programs, ...maps.values()]) handle.close();
});

it('this kernel can do it, and says so', async () => {
  expect(await probeShortcut()).toEqual({ possible: true, reason: expect.any(String) });
});

it('the kernel tags the programs as we do', () => {
  for (const program of [hostIn({ address: OWN, link: 3 }), hostOut({ address: OWN }), routerIn()]) {
    const { name, tag } = bpfProgramInfo(loaded(program));
    expect(name).toBe(program.name);
    expect(tags(program)).toContain(tag);
  }
});

describe('host-in', () => {
  let program: BpfHandle;
  beforeAll(() => {
    program = loaded(hostIn({ address: OWN, link: 3 }));
    updateBpfMap(mapOf('mesh_ports'), word(8080), word(portMark('tcp', 8080)));
    updateBpfMap(mapOf('mesh_ports'), word(65_536 + 53), word(portMark('udp', 53)));
  });
  const run = (packet: Packet, etherType?: number) => {
    const { action, mark } = testBpfProgram(program, frame(packet, etherType));
    return [action, mark];
  };
  const tcp: Packet = { protocol: 'tcp', from: CLIENT, to: OWN, ports: [40_000, 8080] };
  const udp: Packet = { protocol: 'udp', from: CLIENT, to: OWN, ports: [40_000, 53] };

  it('marks and redirects what goes to published ports, beginnings too', () => {
    expect(run(tcp)).toEqual([REDIRECT, portMark('tcp', 8080)]);
    expect(run({ ...tcp, flags: FLAGS.syn })).toEqual([REDIRECT, portMark('tcp', 8080)]);
    expect(run(udp)).toEqual([REDIRECT, portMark('udp', 53)]);
  });

  it.each<[string, Packet, number?]>([
    ['another port', { ...tcp, ports: [40_000, 8081] }],
    ['the same number of the other protocol', { ...tcp, ports: [40_000, 53] }],
    ['another address', { ...tcp, to: '192.0.2.2' }],
    ['a fragment', { ...tcp, fragment: 0x2000 }],
    ['a later fragment', { ...tcp, fragment: 10 }],
    ['options', { ...tcp, options: true }],
    ['another family', tcp, 0x86dd],
    ['a ping', { protocol: 'icmp', from: CLIENT, to: OWN, payload: Buffer.from([8, 0, 0, 0, 0, 0, 0, 0]) }],
  ])('lets pass: %s', (_, packet, etherType) => expect(run(packet, etherType)).toEqual([PASS, 0]));

  it("takes errors about what a published port sent, and nobody else's", () => {
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
    expect(run(quoting(3, { ...answer, protocol: 'icmp' }))).toEqual([PASS, 0]);
  });
});

describe('host-out', () => {
  it('lets pass what has another source, and what has no route out', () => {
    const program = loaded(hostOut({ address: OWN }));
    const packet: Packet = { protocol: 'tcp', from: OWN, to: '127.0.0.1', ports: [8080, 40_000] };
    expect(testBpfProgram(program, frame(packet)).action).toBe(PASS);
    expect(testBpfProgram(program, frame({ ...packet, from: '192.0.2.2' })).action).toBe(PASS);
  });
});

/** As src/bpf/flow.ts lays it out. */
function flowKey(protocol: 'tcp' | 'udp', clientPort = 40_000): Buffer {
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(clientPort, 0);
  ports.writeUInt16BE(80, 2);
  return Buffer.concat([addressBytes(CLIENT), addressBytes(TASK), ports, word(protocol === 'tcp' ? 6 : 17)]);
}

const nodeOf = (key: Buffer) => lookUpBpfMap(mapOf('mesh_flows'), key)?.readUInt32LE();
beforeEach(() => {
  for (const protocol of ['tcp', 'udp'] as const) deleteFromBpfMap(mapOf('mesh_flows'), flowKey(protocol));
});

describe('router-in', () => {
  let program: BpfHandle;
  let taskProgram: BpfHandle;
  beforeAll(() => {
    program = loaded(routerIn());
    taskProgram = loaded(taskOut({ vxlan: 2, lb: 3, number: 1 }));
    updateBpfMap(mapOf('mesh_tasks'), addressBytes(TASK), word(5));
  });
  const run = (packet: Packet, node: number) => {
    const { action, mark } = testBpfProgram(program, frame(packet), node);
    return [action, mark];
  };
  const tcp: Packet = { protocol: 'tcp', from: CLIENT, to: TASK, ports: [40_000, 80] };
  const udp: Packet = { ...tcp, protocol: 'udp' };

  const opened = (node: number) => {
    expect(run({ ...tcp, flags: FLAGS.syn }, node)).toEqual([PASS, node]);
    expect(nodeOf(flowKey('tcp'))).toBe((FLOW_OPENING | node) >>> 0);
    // Without an answer under these very ports nothing opens: conntrack may have given the flow another.
    expect(run(tcp, node)).toEqual([PASS, node]);
    expect(run(tcp, node)).toEqual([PASS, node]);
    const answer: Packet = { ...tcp, from: TASK, to: CLIENT, ports: [80, 40_000], flags: FLAGS.syn | FLAGS.ack };
    expect(testBpfProgram(taskProgram, frame(answer)).action).toBe(PASS);
    expect(nodeOf(flowKey('tcp'))).toBe((FLOW_ANSWERED | node) >>> 0);
    expect(run(tcp, node)).toEqual([PASS, node]);
    expect(nodeOf(flowKey('tcp'))).toBe(node);
    expect(run(tcp, node)).toEqual([REDIRECT, 0]);
  };

  it('lets the first segments of a TCP flow pass and takes the rest', () => {
    expect(run(tcp, 2)).toEqual([PASS, 2]);
    expect(nodeOf(flowKey('tcp'))).toBeUndefined();
    opened(2);
    opened(2);
  });

  it('forgets a TCP flow that ends: the next one of these ports may come through another node', () => {
    for (const flags of [FLAGS.fin | FLAGS.ack, FLAGS.rst]) {
      opened(2);
      expect(run({ ...tcp, flags }, 2)).toEqual([PASS, 2]);
      expect(nodeOf(flowKey('tcp'))).toBeUndefined();
      expect(run(tcp, 2)).toEqual([PASS, 2]);
      expect(nodeOf(flowKey('tcp'))).toBeUndefined();
    }
    opened(0);
  });

  it.each([
    ['with its beginning', FLAGS.syn],
    ['with any segment', FLAGS.ack],
  ])('gives up a TCP flow that another node brings too, %s, until both are over', (_, flags) => {
    opened(2);
    expect(run({ ...tcp, flags }, 3)).toEqual([PASS, 3]);
    expect(nodeOf(flowKey('tcp'))).toBe(FLOW_PLAIN);
    expect(run(tcp, 2)).toEqual([PASS, 2]);
    expect(run(tcp, 3)).toEqual([PASS, 3]);
    expect(nodeOf(flowKey('tcp'))).toBe(FLOW_PLAIN);
    // One of them ends: the other has no beginning to show any more.
    expect(run({ ...tcp, flags: FLAGS.fin | FLAGS.ack }, 2)).toEqual([PASS, 2]);
    expect(run(tcp, 3)).toEqual([PASS, 3]);
    expect(run(tcp, 3)).toEqual([PASS, 3]);
  });

  it('takes UDP at once, until a second node brings the same flow', () => {
    expect(run(udp, 0)).toEqual([REDIRECT, 0]);
    expect(run(udp, 0)).toEqual([REDIRECT, 0]);
    expect(run(udp, 4)).toEqual([PASS, 4]);
    expect(nodeOf(flowKey('udp'))).toBe(FLOW_PLAIN);
    expect(run(udp, 0)).toEqual([PASS, 0]);
    expect(run(udp, 4)).toEqual([PASS, 4]);
  });

  it('leaves other addresses and protocols alone', () => {
    expect(run({ ...udp, to: '10.252.1.6' }, 2)).toEqual([PASS, 2]);
    expect(run({ ...tcp, protocol: 'icmp' }, 2)).toEqual([PASS, 2]);
    expect(run({ ...udp, fragment: 0x2000 }, 2)).toEqual([PASS, 2]);
  });
});

describe('task-out', () => {
  let program: BpfHandle;
  beforeAll(() => {
    program = loaded(taskOut({ vxlan: 2, lb: 3, number: 0x0102 }));
  });
  const tcp: Packet = { protocol: 'tcp', from: TASK, to: CLIENT, ports: [80, 40_000] };
  const run = (packet: Packet) => testBpfProgram(program, frame(packet));

  it('sends answers to the node that brought the flow in', () => {
    expect(run(tcp).action).toBe(PASS);
    updateBpfMap(mapOf('mesh_flows'), flowKey('tcp'), word(0x0304));
    const { action, packet } = run(tcp);
    expect(action).toBe(REDIRECT);
    expect(packet.subarray(0, 12).toString('hex')).toBe('026d65730304026d65730102');
    expect(packet.subarray(12)).toEqual(frame(tcp).subarray(12));
    expect(run({ ...tcp, flags: FLAGS.fin }).action).toBe(PASS);
    expect(run({ ...tcp, protocol: 'udp' }).action).toBe(PASS);
  });

  it('forgets a connection that the task ends', () => {
    updateBpfMap(mapOf('mesh_flows'), flowKey('tcp'), word(2));
    expect(run({ ...tcp, flags: FLAGS.fin | FLAGS.ack }).action).toBe(PASS);
    expect(nodeOf(flowKey('tcp'))).toBeUndefined();
  });

  it('and to this lb as they are', () => {
    updateBpfMap(mapOf('mesh_flows'), flowKey('udp'), word(0));
    const udp: Packet = { ...tcp, protocol: 'udp' };
    const { action, packet } = run(udp);
    expect([action, packet]).toEqual([REDIRECT, frame(udp)]);
    updateBpfMap(mapOf('mesh_flows'), flowKey('udp'), word(FLOW_PLAIN));
    expect(run(udp).action).toBe(PASS);
  });
});

import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { bpfMapEntries, deleteFromBpfMap, testBpfProgram } from '../../../native/index.ts';
import { KNOWN_FLOW_MARK } from '../../model/linux-names.ts';
import { openFastPathMaps } from './fast-path-maps.ts';
import { loadProgram } from './fast-path-objects.ts';
import {
  FIRST_FRAGMENT,
  FLAGS,
  frame,
  icmpError,
  LATER_FRAGMENT,
  PASS,
  type Packet,
  REDIRECT,
  transportAt,
} from './test-packets.ts';

/**
 * Flows that switch between the fast and the standard path at any packet: whatever the programs pass to the stack has the
 * ports of its flow, and a mark by which the rules of the router handle it without conntrack (src/plan/firewall.ts).
 */

const OWN_NUMBER = 1;
const CLIENT = '198.51.100.9';
const TASK = '10.252.1.5';
const CLIENT_PORT = 40_000;
/** Ports of the client's packet in what an ICMP error quotes, from the transport header on. */
const QUOTED_PORTS = 8 + 20;

const maps = openFastPathMaps();
const routerIn = loadProgram({ type: 'router-in' }, Number, maps.mapsFor('router-in'));
const taskOut = loadProgram(
  { type: 'task-out', vxlan: '2', lb: '3', number: OWN_NUMBER },
  Number,
  maps.mapsFor('task-out'),
);
maps.setTask(TASK, 5);
afterAll(() => {
  for (const handle of [routerIn, taskOut]) handle.close();
  maps.close();
});

function forgetFlows(): void {
  for (const map of Object.values(maps.mapsFor('task-out'))) {
    const { count, keys } = bpfMapEntries(map);
    for (let entry = 0; entry < count; entry++) deleteFromBpfMap(map, keys.subarray(entry * 16, entry * 16 + 16));
  }
}

const PROTOCOLS = ['tcp', 'udp'] as const;
/** This node's own lb, and two others. */
const NODES = [0, 2, 3];

/** All share the client's address and port, and the task. */
const flow = fc.record({ protocol: fc.constantFrom(...PROTOCOLS), node: fc.constantFrom(...NODES) });
const step = fc.record({
  flow,
  direction: fc.constantFrom('to-task', 'from-task', 'error-to-task', 'error-from-task'),
  form: fc.constantFrom('whole', 'options', 'fragment'),
});

it('a flow has one port and one entry node, whichever path its packets take', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      forgetFlows();
      /** The client's port as the task sees it, by flow. */
      const seen = new Map<string, number>();
      for (const { flow, direction, form } of steps) {
        const key = `${flow.protocol} ${flow.node}`;
        const port = seen.get(key);
        const fragment = form === 'fragment' ? FIRST_FRAGMENT : 0;
        const packet: Packet = { protocol: flow.protocol, from: CLIENT, to: TASK, ports: [CLIENT_PORT, 80] };
        const shape = { fragment, options: form === 'options' };
        if (direction === 'to-task' || port === undefined) {
          const flags = port === undefined ? FLAGS.syn : FLAGS.ack;
          const result = testBpfProgram(routerIn, frame({ ...packet, ...shape, flags }), flow.node);
          const now = result.packet.readUInt16BE(transportAt(result.packet));
          expect(result).toMatchObject(
            fragment ? { action: PASS, mark: KNOWN_FLOW_MARK } : { action: REDIRECT, mark: 0 },
          );
          expect(now).toBe(port ?? now);
          seen.set(key, now);
          const ofProtocol = [...seen].filter(([other]) => other.startsWith(flow.protocol)).map(([, number]) => number);
          expect(new Set(ofProtocol).size).toBe(ofProtocol.length);
        } else if (direction === 'from-task') {
          const answer: Packet = { ...packet, ...shape, from: TASK, to: CLIENT, ports: [80, port] };
          const result = testBpfProgram(taskOut, frame(answer));
          expect(result.packet.readUInt16BE(transportAt(result.packet) + 2)).toBe(CLIENT_PORT);
          expect(result).toMatchObject(
            fragment ? { action: PASS, mark: flow.node || OWN_NUMBER } : { action: REDIRECT, mark: 0 },
          );
          expect(result.packet.readUInt16BE(4)).toBe(flow.node);
        } else if (direction === 'error-to-task') {
          const answer: Packet = { ...packet, from: TASK, to: CLIENT, ports: [80, CLIENT_PORT] };
          const error = { ...icmpError('203.0.113.1', TASK, answer), options: shape.options };
          const result = testBpfProgram(routerIn, frame(error), flow.node);
          expect(result).toMatchObject({ action: REDIRECT, mark: 0 });
          expect(result.packet.readUInt16BE(transportAt(result.packet) + QUOTED_PORTS + 2)).toBe(port);
        } else {
          const request: Packet = { ...packet, ports: [port, 80] };
          const error = { ...icmpError(TASK, CLIENT, request), options: shape.options };
          const result = testBpfProgram(taskOut, frame(error));
          expect(result).toMatchObject({ action: REDIRECT, mark: 0 });
          expect(result.packet.readUInt16BE(transportAt(result.packet) + QUOTED_PORTS)).toBe(CLIENT_PORT);
          expect(result.packet.readUInt16BE(4)).toBe(flow.node);
        }
      }
    }),
    { numRuns: 300 },
  );
});

it('later fragments are passed as they are: the stack gives the datagram the mark of its first one', () => {
  forgetFlows();
  const request: Packet = { protocol: 'udp', from: CLIENT, to: TASK, ports: [CLIENT_PORT, 80] };
  expect(testBpfProgram(routerIn, frame(request), 2).action).toBe(REDIRECT);
  const later = frame({ ...request, fragment: LATER_FRAGMENT });
  expect(testBpfProgram(routerIn, later, 2)).toEqual({ action: PASS, mark: 2, packet: later });
  const answer = frame({ ...request, from: TASK, to: CLIENT, ports: [80, CLIENT_PORT], fragment: LATER_FRAGMENT });
  expect(testBpfProgram(taskOut, answer)).toEqual({ action: PASS, mark: 0, packet: answer });
});

/** Ones' complement sum over 16-bit words: 0xffff where a correct checksum is included. */
function sum(bytes: Buffer): number {
  let total = 0;
  for (let at = 0; at + 1 < bytes.length; at += 2) total += bytes.readUInt16BE(at);
  while (total > 0xffff) total = (total & 0xffff) + (total >> 16);
  return total;
}

it('checksums stay right where a port is replaced', () => {
  forgetFlows();
  const packet: Packet = { protocol: 'udp', from: CLIENT, to: TASK, ports: [CLIENT_PORT, 80] };
  testBpfProgram(routerIn, frame(packet), 2);
  const request = frame(packet);
  // Any value: the difference has to be that of the ports.
  request.writeUInt16BE(0x1234, 40);
  const { packet: translated } = testBpfProgram(routerIn, request, 3);
  const alias = translated.readUInt16BE(34);
  expect(alias).not.toBe(CLIENT_PORT);
  expect(sum(translated.subarray(34))).toBe(sum(request.subarray(34)));
  // A datagram without a checksum stays without.
  expect(testBpfProgram(routerIn, frame(packet), 3).packet.readUInt16BE(40)).toBe(0);

  const error = frame(icmpError('203.0.113.1', TASK, { ...packet, from: TASK, to: CLIENT, ports: [80, CLIENT_PORT] }));
  error.writeUInt16BE(0xffff - sum(error.subarray(34)), 36);
  expect(sum(error.subarray(34))).toBe(0xffff);
  const { packet: forTask } = testBpfProgram(routerIn, error, 3);
  expect(forTask.readUInt16BE(34 + QUOTED_PORTS + 2)).toBe(alias);
  expect(sum(forTask.subarray(34))).toBe(0xffff);
});

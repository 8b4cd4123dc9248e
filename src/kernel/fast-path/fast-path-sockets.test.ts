import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { afterAll, afterEach, expect, it } from 'vitest';
import { testBpfProgram } from '../../../native/index.ts';
import { portMark } from '../../model/linux-names.ts';
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
} from './test-packets.ts';

/** Published ports that programs of the host use as their own: host-in beside sockets of this machine. Needs root. */

const HOST = '127.0.0.1';
const OTHER_PORT = 9;

const maps = openFastPathMaps();
const program = loadProgram(
  { type: 'host-in', address: HOST, lb: '3', router: '4', vni: 4096, number: 1 },
  Number,
  maps.mapsFor('host-in'),
);
const sent = loadProgram({ type: 'host-sent', address: HOST, lb: '3' }, Number, maps.mapsFor('host-sent'));
afterEach(() => {
  for (const mark of maps.ports()) maps.deletePort(mark);
});
afterAll(() => {
  program.close();
  sent.close();
  maps.close();
});

function run(packet: Packet): number {
  return testBpfProgram(program, frame(packet)).action;
}

/** A packet to a port of this host. */
function packetTo(protocol: 'tcp' | 'udp', from: number, to: number, more: Partial<Packet> = {}): Packet {
  return { protocol, from: HOST, to: HOST, ports: [from, to], ...more };
}

it('leaves the segments of a connection of the host to it, until some time after its end', async () => {
  const server = createServer().listen(0, HOST);
  await once(server, 'listening');
  const serverPort = (server.address() as AddressInfo).port;
  const accepted = once(server, 'connection');
  const client = connect(serverPort, HOST);
  await once(client, 'connect');
  const own = (client.address() as AddressInfo).port;
  maps.setPort(portMark('tcp', own));
  maps.setPort(portMark('tcp', serverPort));

  for (const flags of [FLAGS.syn | FLAGS.ack, FLAGS.ack, FLAGS.fin | FLAGS.ack, FLAGS.rst])
    expect(run(packetTo('tcp', serverPort, own, { flags }))).toBe(PASS);
  expect(run(packetTo('tcp', serverPort, own, { fragment: FIRST_FRAGMENT, id: 1 }))).toBe(PASS);
  expect(run(packetTo('tcp', serverPort, own, { fragment: LATER_FRAGMENT, id: 1 }))).toBe(PASS);
  expect(run(icmpError('203.0.113.1', HOST, packetTo('tcp', own, serverPort)))).toBe(PASS);
  // The connection that a program of the host had accepted before the port was published.
  expect(run(packetTo('tcp', own, serverPort))).toBe(PASS);
  // Clients of the published ports: a listener of the host does not get them.
  expect(run(packetTo('tcp', OTHER_PORT, serverPort, { flags: FLAGS.syn }))).toBe(REDIRECT);
  expect(run(packetTo('tcp', OTHER_PORT, own))).toBe(REDIRECT);
  expect(run(icmpError('203.0.113.1', HOST, packetTo('tcp', own, OTHER_PORT)))).toBe(REDIRECT);

  const [peer] = await accepted;
  client.end();
  await once(client, 'end', { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
  peer.end();
  await once(client, 'close');
  expect(run(packetTo('tcp', serverPort, own))).toBe(PASS);
  server.close();
});

/** A UDP socket of this host. */
async function bindUdp() {
  const socket = createSocket('udp4');
  socket.bind(0, HOST);
  await once(socket, 'listening');
  return { socket, port: socket.address().port };
}

it('leaves datagrams to conntrack while a socket of the host has the port', async () => {
  const { socket, port } = await bindUdp();
  maps.setPort(portMark('udp', port));
  expect(run(packetTo('udp', OTHER_PORT, port))).toBe(PASS);
  expect(run(packetTo('udp', OTHER_PORT, port, { fragment: FIRST_FRAGMENT, id: 2 }))).toBe(PASS);
  socket.close();
  await once(socket, 'close');
  expect(run(packetTo('udp', OTHER_PORT, port))).toBe(REDIRECT);
});

it('looks for sockets of a port only once the host has sent from it', async () => {
  const { socket, port } = await bindUdp();
  maps.setPort(portMark('udp', port));
  maps.setUnused(portMark('udp', port));
  expect(run(packetTo('udp', OTHER_PORT, port))).toBe(REDIRECT);
  // Packets that the kernel sends in a test have a socket.
  testBpfProgram(sent, frame({ protocol: 'udp', from: HOST, to: '203.0.113.1', ports: [port, OTHER_PORT] }));
  expect(run(packetTo('udp', OTHER_PORT, port))).toBe(PASS);
  expect(run(packetTo('udp', OTHER_PORT, port, { fragment: FIRST_FRAGMENT, id: 3 }))).toBe(PASS);
  socket.close();
  await once(socket, 'close');
  expect(run(packetTo('udp', OTHER_PORT, port))).toBe(REDIRECT);
});

import { execFileSync, spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cleanUp, freshNetns, onCleanup } from '../../../native/test-support.ts';
import { portMark } from '../../model/linux-names.ts';
import { openFastPathMaps } from './fast-path-maps.ts';
import { attachProgram } from './test-attach.ts';

/**
 * A host with the programs on its links, in this machine's kernel: a client outside, a published port in the lb, and a
 * container that the host masquerades. Needs root, iptables and python3.
 */

const OWN = '192.0.2.1';
const OUTSIDE = '192.0.2.9';
/** One of which meshd does not know whether programs of the host use it, and one that none used when it was published. */
const PORTS = { unknown: 8080, unused: 8081 };

const host = freshNetns().name;
const lb = freshNetns().name;
const box = freshNetns().name;
const outside = freshNetns().name;

const LINKS = `
for netns in ${host} ${lb} ${box} ${outside}; do ip -n $netns link set lo up; done
ip netns exec ${host} sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
ip -n ${host} link add eth0 type veth peer name eth0 netns ${outside}
ip -n ${host} link add mesh0 type veth peer name host0 netns ${lb}
ip -n ${host} link add box0 type veth peer name eth0 netns ${box}
ip -n ${host} addr add ${OWN}/24 dev eth0; ip -n ${host} link set eth0 up
ip -n ${host} addr add 10.252.1.1/32 dev mesh0; ip -n ${host} link set mesh0 up; ip -n ${host} route add 10.252.1.2/32 dev mesh0
ip -n ${host} addr add 172.20.0.1/24 dev box0; ip -n ${host} link set box0 up
ip -n ${outside} addr add ${OUTSIDE}/24 dev eth0; ip -n ${outside} link set eth0 up
ip -n ${box} addr add 172.20.0.2/24 dev eth0; ip -n ${box} link set eth0 up; ip -n ${box} route add default via 172.20.0.1
ip -n ${lb} addr add ${OWN}/32 dev lo; ip -n ${lb} addr add 10.252.1.2/32 dev host0; ip -n ${lb} link set host0 up; ip -n ${lb} route add 10.252.1.1/32 dev host0
ip -n ${lb} route add default via 10.252.1.1
ip netns exec ${lb} sysctl -qw net.ipv4.conf.host0.accept_local=1 net.ipv4.conf.host0.rp_filter=0 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.host0.arp_announce=2
ip netns exec ${host} iptables -t nat -A POSTROUTING -s 172.20.0.0/24 -o eth0 -j MASQUERADE
`;

/** Echoes datagrams and bytes of connections, with its name before them. */
const SERVER = `
import socket, sys, threading
address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind((address, port))
tcp = socket.create_server((address, port))
def datagrams():
    while True:
        data, peer = udp.recvfrom(65535)
        udp.sendto(name + data, peer)
def connection(one):
    while data := one.recv(65535): one.sendall(name + data)
threading.Thread(target=datagrams, daemon=True).start()
print('ready', flush=True)
while True: threading.Thread(target=connection, args=(tcp.accept()[0],), daemon=True).start()
`;

/** Exchanges two messages from a port, over TCP or UDP; prints the answers, or the error. */
const ASK = `
import socket, sys
kind, source, own_port, address, port = sys.argv[1:]
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.settimeout(5)
try:
    sock.bind((source, int(own_port)))
    sock.connect((address, int(port)))
    for text in (b'1', b'2'):
        sock.send(text)
        print(sock.recv(65535).decode(), flush=True)
except OSError as error:
    print(type(error).__name__)
`;

async function serve(netns: string, address: string, port: number, name: string): Promise<void> {
  const words = ['netns', 'exec', netns, 'python3', '-c', SERVER, address, `${port}`, name];
  const server = spawn('ip', words, { stdio: ['ignore', 'pipe', 'inherit'] });
  onCleanup(() => server.kill());
  await new Promise((resolve) => server.stdout.once('data', resolve));
}

type Protocol = 'tcp' | 'udp';
const PROTOCOLS: Protocol[] = ['tcp', 'udp'];
const CASES = PROTOCOLS.flatMap((protocol) => Object.values(PORTS).map((port) => [protocol, port] as const));
function ask(netns: string, protocol: Protocol, from: [string, number], to: [string, number]): string[] {
  const words = ['netns', 'exec', netns, 'python3', '-c', ASK, protocol, ...from.map(String), ...to.map(String)];
  return execFileSync('ip', words, { encoding: 'utf8' }).trim().split('\n');
}

const maps = openFastPathMaps();

beforeAll(async () => {
  execFileSync('bash', ['-ec', LINKS]);
  const links = { lb: 'mesh0', router: 'mesh0', vni: 4096, number: 1 };
  await attachProgram(maps, host, 'mesh0', { type: 'host-out', address: OWN });
  await attachProgram(maps, host, 'eth0', { type: 'host-sent', address: OWN, lb: 'mesh0' });
  await attachProgram(maps, host, 'eth0', { type: 'host-in', address: OWN, ...links });
  for (const port of Object.values(PORTS)) {
    for (const protocol of PROTOCOLS) maps.setPort(portMark(protocol, port));
    await serve(lb, OWN, port, 'published ');
  }
  for (const protocol of PROTOCOLS) maps.setUnused(portMark(protocol, PORTS.unused));
  for (const port of [53, 54]) await serve(outside, OUTSIDE, port, 'outside ');
});
afterAll(() => {
  cleanUp();
  maps.close();
});

it.each(CASES)('clients reach a published port, and their answers return: %s, %s', (protocol, port) => {
  expect(ask(outside, protocol, [OUTSIDE, 40_000], [OWN, port])).toEqual(['published 1', 'published 2']);
});

it.each(CASES)('a program of the host may use a published port as its source: %s, %s', (protocol, port) => {
  expect(ask(host, protocol, [OWN, port], [OUTSIDE, 53])).toEqual(['outside 1', 'outside 2']);
  // Clients of the port do not notice.
  expect(ask(outside, protocol, [OUTSIDE, 40_001], [OWN, port])).toEqual(['published 1', 'published 2']);
});

it.each(CASES)('a masqueraded container may use a published port as its source: %s, %s', (protocol, port) => {
  expect(ask(box, protocol, ['0.0.0.0', port], [OUTSIDE, 54])).toEqual(['outside 1', 'outside 2']);
  expect(ask(outside, protocol, [OUTSIDE, 40_002], [OWN, port])).toEqual(['published 1', 'published 2']);
});

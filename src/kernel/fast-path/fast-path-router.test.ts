import { execFile, execFileSync, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cleanUp, freshNetns, onCleanup } from '../../../native/test-support.ts';
import { diff } from '../../diff/diff.ts';
import { stateOf } from '../../model/kernel-state.ts';
import { renderOp } from '../../model/render.ts';
import { CAPABILITIES, threeNodes } from '../../plan/assignments.test-data.ts';
import { plan } from '../../plan/plan.ts';
import { openFastPathMaps } from './fast-path-maps.ts';
import { attachProgram } from './test-attach.ts';

/**
 * A router with the rules of the plan and the programs, in this machine's kernel: a task, a client behind this node's lb, and
 * the same client address behind another node, in VXLAN. Needs root, iptables and python3.
 */

const CLIENT = '198.51.100.9';
const TASK = '10.252.1.5';
const VETH = 't-aaaaaaaaaaaa';
/** Number of the other node; this one is 1. */
const OTHER = 2;

const router = freshNetns().name;
const task = freshNetns().name;
const lb = freshNetns().name;
const other = freshNetns().name;

function shell(script: string): string {
  return execFileSync('bash', ['-ec', script], { encoding: 'utf8' });
}

const LINKS = `
ip -n ${router} link add ${VETH} mtu 1450 type veth peer name eth0 mtu 1450 netns ${task}
ip -n ${router} link add lb0 mtu 1450 type veth peer name net0 mtu 1450 netns ${lb}
ip -n ${router} link add under0 type veth peer name under0 netns ${other}
for netns in ${router} ${task} ${lb} ${other}; do
  ip netns exec $netns sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
  ip -n $netns link set lo up
done
vxlan() { # NETNS NUMBER OTHER
  ip -n $1 addr add 192.0.2.$2/24 dev under0; ip -n $1 link set under0 up
  ip -n $1 link add vxlan0 mtu 1450 address 02:6d:65:73:00:0$2 type vxlan id 4096 local 192.0.2.$2 dstport 4789 gbp nolearning
  ip -n $1 addr add 10.252.$2.0/32 dev vxlan0; ip -n $1 link set vxlan0 up
  bridge -n $1 fdb append 02:6d:65:73:00:0$3 dev vxlan0 dst 192.0.2.$3
  ip -n $1 neigh add 10.252.$3.0 lladdr 02:6d:65:73:00:0$3 dev vxlan0
  ip netns exec $1 sysctl -qw net.ipv4.conf.vxlan0.rp_filter=0
}
vxlan ${router} 1 ${OTHER}
vxlan ${other} ${OTHER} 1
ip -n ${router} addr add 169.254.1.1/32 dev ${VETH}; ip -n ${router} link set ${VETH} up
ip -n ${router} route add ${TASK}/32 dev ${VETH}
ip -n ${task} addr add ${TASK}/32 dev eth0; ip -n ${task} link set eth0 up
ip -n ${task} route add 169.254.1.1/32 dev eth0; ip -n ${task} route add default via 169.254.1.1 dev eth0
ip -n ${router} addr add 10.252.1.4/32 dev lb0; ip -n ${router} link set lb0 up
ip -n ${lb} addr add 10.252.1.3/32 dev net0; ip -n ${lb} addr add ${CLIENT}/32 dev lo; ip -n ${lb} link set net0 up
ip -n ${lb} route add 10.252.1.4/32 dev net0; ip -n ${lb} route add ${TASK}/32 via 10.252.1.4 src ${CLIENT}
ip -n ${router} route add 10.252.1.3/32 dev lb0; ip -n ${router} route add default via 10.252.1.3
ip -n ${other} addr add ${CLIENT}/32 dev lo
ip -n ${other} route add ${TASK}/32 via 10.252.1.0 dev vxlan0 onlink src ${CLIENT}
ip -n ${router} route add default via 10.252.${OTHER}.0 dev vxlan0 onlink table 100002
ip -n ${router} rule add priority 10002 fwmark ${OTHER} lookup 100002
# The underlay is in another netns otherwise, where marks have no rules.
ip -n ${router} rule add priority 9000 to 192.0.2.0/24 lookup main
# What the lb of the other node does.
ip netns exec ${other} iptables -t mangle -A POSTROUTING -o vxlan0 -j MARK --set-mark ${OTHER}
`;

/** Answers each datagram with as many bytes as its first five digits say. */
const SERVER = `
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('0.0.0.0', 80))
print('ready', flush=True)
while True:
    data, client = server.recvfrom(65535)
    server.sendto(b'x' * int(data[:5]), client)
`;

/** Sends from one port: pairs of the length of the request and of its answer; prints the lengths of the answers. */
const ASK = `
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(('${CLIENT}', int(sys.argv[1])))
sock.connect(('${TASK}', 80))
sock.settimeout(5)
for pair in sys.argv[2:]:
    request, answer = map(int, pair.split(':'))
    sock.send(b'%05d' % answer + b'q' * (request - 5))
    print(len(sock.recv(65535)), flush=True)
`;

const maps = openFastPathMaps();

/** The chains and sysctls that the plan has for the router. */
function routerCommands(): string[] {
  const planned = [...plan(threeNodes(['inet']), { ...CAPABILITIES, fastPath: {} }).values()].filter(
    ({ netns, kind }) => netns === 'mesh-net-ingress' && ['chain', 'jump', 'sysctl'].includes(kind),
  );
  return diff(new Map(), stateOf(planned))
    .flatMap(renderOp)
    .map((command) => command.replaceAll('mesh-net-ingress', router));
}

beforeAll(async () => {
  shell(LINKS);
  shell(routerCommands().join('\n'));
  for (const link of ['vxlan0', 'lb0']) await attachProgram(maps, router, link, { type: 'router-in' });
  maps.setTask(
    TASK,
    await attachProgram(maps, router, VETH, { type: 'task-out', vxlan: 'vxlan0', lb: 'lb0', number: 1 }),
  );
  const server = spawn('ip', ['netns', 'exec', task, 'python3', '-c', SERVER], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onCleanup(() => server.kill());
  await new Promise((resolve) => server.stdout.once('data', resolve));
});
afterAll(() => {
  cleanUp();
  maps.close();
});

/** Lengths of the answers to a client in a netns. */
async function ask(netns: string, port: number, pairs: readonly (readonly [number, number])[]): Promise<number[]> {
  const words = pairs.map((pair) => pair.join(':'));
  const { stdout } = await promisify(execFile)('ip', [
    'netns',
    'exec',
    netns,
    'python3',
    '-c',
    ASK,
    `${port}`,
    ...words,
  ]);
  return stdout.trim().split('\n').map(Number);
}

/** Around the largest datagram without fragments, 1450 - 28; some requests are fragments too. */
const SIZES = [
  [5, 10],
  [5, 1422],
  [5, 1423],
  [1423, 10],
  [3000, 3000],
  [5, 20_000],
  [20_000, 5],
  [5, 5],
] as const;
const answers = SIZES.map(([, answer]) => answer);

it('datagrams of any size are answered, by this node and by another, from one client port at once', async () => {
  const both = await Promise.all([ask(lb, 40_000, SIZES), ask(other, 40_000, SIZES)]);
  expect(both).toEqual([answers, answers]);
});

it('a flow may begin with a fragment', async () => {
  for (const netns of [lb, other]) expect(await ask(netns, 40_001, [...SIZES].reverse())).toEqual(answers.toReversed());
});

it('answers are fragmented to the path MTU of a client', async () => {
  shell(`ip -n ${task} route add ${CLIENT}/32 via 169.254.1.1 dev eth0 mtu lock 1300`);
  for (const netns of [lb, other])
    expect(
      await ask(netns, 40_002, [
        [5, 1290],
        [5, 1270],
      ]),
    ).toEqual([1290, 1270]);
});

it('conntrack of the router knows none of these flows', () => {
  expect(shell(`ip netns exec ${router} conntrack -L -p udp --src ${CLIENT} 2>/dev/null`)).toBe('');
});

it('a flow without a first packet is rejected', () => {
  const script = `
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(('${TASK}', 81))
sock.connect(('${CLIENT}', 9))
sock.settimeout(5)
sock.send(b'x' * 3000)
sock.recv(1)`;
  expect(() => execFileSync('ip', ['netns', 'exec', task, 'python3', '-c', script], { stdio: 'pipe' })).toThrow(
    /No route to host/,
  );
});

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { silentLog } from '../../src/base/log.ts';
import { diff } from '../../src/diff/diff.ts';
import { openLinuxKernel } from '../../src/kernel/driver/linux-kernel.ts';
import { isMapName, MAP_NAMES } from '../../src/kernel/fast-path/fast-path-objects.ts';
import { probeFastPath } from '../../src/kernel/fast-path/fast-path-probe.ts';
import type { Scope } from '../../src/kernel/kernel.ts';
import { keyOf, stateOf } from '../../src/model/kernel-state.ts';
import type { FastPathProgram } from '../../src/model/kinds/fast-path.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import { portMark } from '../../src/model/linux-names.ts';
import { applyState, damageAndRepair, node } from './node.ts';
import { NETWORK, runJson, runShell, sleep } from './sandbox.ts';

const UNDERLAY_LINK = 'underlay0';
const VETH = 't-aaaaaaaaaaaa';
const ADDRESS = '192.0.2.1';
const TASK_ADDRESS = '10.252.1.5';

function fastPathObject(netns: string, link: string, program: FastPathProgram): KernelObject {
  return { kind: 'fast-path', netns, link, program };
}

const FAST_PATH_OBJECTS: KernelObject[] = [
  {
    kind: 'veth',
    netns: 'host',
    name: 'mesh1',
    mtu: 1450,
    up: true,
    peer: { netns: NETWORK, name: 'host0', mtu: 1450, up: true },
  },
  fastPathObject('host', UNDERLAY_LINK, {
    type: 'host-in',
    address: ADDRESS,
    lb: 'mesh0',
    router: 'mesh1',
    vni: 4096,
    number: 1,
  }),
  {
    kind: 'fast-path',
    netns: 'host',
    link: UNDERLAY_LINK,
    egress: true,
    program: { type: 'host-sent', address: ADDRESS, lb: 'mesh0' },
  },
  fastPathObject('host', 'mesh0', { type: 'host-out', address: ADDRESS }),
  fastPathObject(NETWORK, 'vxlan0', { type: 'router-in' }),
  fastPathObject(NETWORK, 'lb0', { type: 'router-in' }),
  fastPathObject(NETWORK, 'host0', { type: 'router-in' }),
  fastPathObject(NETWORK, VETH, { type: 'task-out', vxlan: 'vxlan0', lb: 'lb0', number: 1 }),
  { kind: 'fast-path-task', netns: NETWORK, address: TASK_ADDRESS, link: VETH },
  { kind: 'fast-path-port', netns: 'host', mark: portMark('tcp', 8080) },
  { kind: 'fast-path-port', netns: 'host', mark: portMark('udp', 53) },
  { kind: 'fast-path-peer', netns: 'host', address: '192.0.2.2' },
];

/**
 * Datagrams to a port of underlay0 as a driver of a network card may hand them on: 14 bytes can be read directly, the rest
 * is in pages. packet_alloc_skb (net/packet/af_packet.c) does so from a page's length on, if the sender gives the end of the headers.
 */
const PAGED = `
import socket, struct, sys
SOL_PACKET, PACKET_VNET_HDR = 263, 15
mac = bytes.fromhex(sys.argv[2].replace(':', ''))
payload = bytes(5000)
udp = struct.pack('!HHHH', 40000, int(sys.argv[1]), 8 + len(payload), 0) + payload
def header(sum):
    return struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, sum) + socket.inet_aton('192.0.2.9') + socket.inet_aton('192.0.2.1')
total = sum(struct.unpack('!10H', header(0)))
total = (total >> 16) + (total & 0xffff)
frame = mac + bytes(6) + bytes.fromhex(sys.argv[3]) + b'\\x08\\x00' + header(~(total + (total >> 16)) & 0xffff) + udp
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
raw.bind(('underlay1', 0))
for _ in range(3):
    raw.send(struct.pack('<BBHHHH', 0, 0, 14, 0, 0, 0) + frame)
`;

const FILTER = 'ingress protocol all pref 4096 handle 1 bpf direct-action';

/** What administrators and other programs do to the fast path. */
const DAMAGE_CASES: [string, string][] = [
  ['a filter deleted', `tc filter del dev ${UNDERLAY_LINK} ingress pref 4096`],
  ['the filter for outgoing packets deleted', `tc filter del dev ${UNDERLAY_LINK} egress pref 4096`],
  ['the qdisc of a link of ours deleted', `tc -n ${NETWORK} qdisc del dev lb0 clsact`],
  ['the qdisc of the underlay deleted', `tc qdisc del dev ${UNDERLAY_LINK} clsact`],
  [
    'another program under a name of ours',
    `mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
    bpftool prog pin id $(bpftool prog show name mesh_router_in | sed -n '1s/:.*//p') /sys/fs/bpf/mesh-test
    tc filter replace dev mesh0 ${FILTER} object-pinned /sys/fs/bpf/mesh-test; status=$?
    rm /sys/fs/bpf/mesh-test; exit $status`,
  ],
  ['the task has no entry', 'bpftool map delete name mesh_tasks key 10 252 1 5'],
  ['the task leads elsewhere', 'bpftool map update name mesh_tasks key 10 252 1 5 value 1 0 0 0'],
  ['an entry without a task', 'bpftool map update name mesh_tasks key 10 99 99 99 value 1 0 0 0'],
  ['a port shut', 'bpftool map delete name mesh_ports key 144 31 1 0'],
  ['a port that is not published', 'bpftool map update name mesh_ports key 9 0 1 0 value 1 0 0 0'],
  ['a peer left out', 'bpftool map delete name mesh_peers key 192 0 2 2'],
  ['a peer that is no node', 'bpftool map update name mesh_peers key 192 0 2 9 value 1'],
  ["the host's veth made anew", 'ip link del mesh0'],
  ["the host's veth to the router made anew", 'ip link del mesh1'],
  ["the host's veth to the router down", 'ip link set mesh1 down'],
  ['the vxlan device made anew', `ip -n ${NETWORK} link del vxlan0`],
  ['the router made anew', `ip netns del ${NETWORK}`],
];

/** tc programs and their maps on this kernel, beside tc and bpftool; starts and ends with the node as it is. */
export function testFastPath(): void {
  test('fast path: this kernel supports it', async () => {
    const { possible: isSupported, reason } = await probeFastPath();
    assert.ok(isSupported, reason);
  });

  test('fast path: attached, observed, adopted, repaired, removed', async (context) => {
    const plain = node.want;
    runShell(
      `tc qdisc add dev ${UNDERLAY_LINK} clsact; tc filter add dev ${UNDERLAY_LINK} ingress pref 7 bpf direct-action bytecode '1,6 0 0 4294967295,'`,
    );
    await applyState(plain);
    const steps = diff(await node.kernel.observe(), stateOf([...plain.values(), ...FAST_PATH_OBJECTS]));
    assert.deepEqual(
      steps.map(({ verb, object }) => `${verb} ${keyOf(object)}`),
      [
        'create link host mesh1',
        'create fast-path host mesh0',
        `create fast-path host ${UNDERLAY_LINK} egress`,
        `create fast-path ${NETWORK} ${VETH}`,
        `create fast-path ${NETWORK} host0`,
        `create fast-path ${NETWORK} lb0`,
        `create fast-path ${NETWORK} vxlan0`,
        `create fast-path-task ${NETWORK} ${TASK_ADDRESS}`,
        `create fast-path-port host ${portMark('udp', 53)}`,
        `create fast-path-port host ${portMark('tcp', 8080)}`,
        'create fast-path-peer host 192.0.2.2',
        `create fast-path host ${UNDERLAY_LINK}`,
      ],
    );
    node.want = stateOf([...plain.values(), ...FAST_PATH_OBJECTS]);
    await applyState(node.want);
    assert.match(
      runShell(`tc filter show dev ${UNDERLAY_LINK} ingress pref 4096`),
      /mesh-host-in direct-action .*name mesh_host_in/,
    );
    const maps = runJson<{ name?: string }>('bpftool -j map show').flatMap(({ name }) =>
      name !== undefined && isMapName(name) ? [name] : [],
    );
    assert.deepEqual(maps.sort(), [...MAP_NAMES].sort());
    // PORT_UNUSED: no program of this host has a socket with these ports.
    const ports = runJson<{ value: string[] }>('bpftool -j map dump name mesh_ports').map(({ value }) => value[0]);
    assert.deepEqual(ports, ['0x02', '0x02']);

    await context.test('fast path: another meshd adopts it without an operation', async () => {
      const other = await openLinuxKernel({ log: silentLog(), desired: () => node.want });
      try {
        assert.deepEqual(diff(await other.observe(), node.want), []);
        // What it writes is in the maps of the attached programs.
        const port: KernelObject = { kind: 'fast-path-port', netns: 'host', mark: portMark('tcp', 81) };
        assert.deepEqual((await other.apply([{ verb: 'create', object: port }])).failed, []);
        assert.equal((await node.kernel.observe()).has(keyOf(port)), true);
        assert.deepEqual((await other.apply([{ verb: 'delete', object: port }])).failed, []);
      } finally {
        other.close();
      }
    });

    await context.test('fast path: forwards packets with headers in pages too', () => {
      const plain = '-i underlay0 -p udp -m udp --dport';
      runShell(`for dev in underlay0 underlay1; do ip link set $dev mtu 9000; done
        for port in 53 54; do iptables -t raw -I PREROUTING ${plain} $port; done`);
      const [underlay] = runJson<{ address: string }>(`ip -j link show ${UNDERLAY_LINK}`);
      try {
        for (const port of [53, 54]) execFileSync('python3', ['-c', PAGED, String(port), underlay!.address, '']);
        const counts = runShell('iptables -t raw -S PREROUTING -v').split('\n');
        const seen = (port: number) =>
          counts.find((line) => line.includes(`${plain} ${port} `))?.match(/-c (\d+)/)?.[1];
        assert.deepEqual([seen(53), seen(54)], ['0', '3'], counts.join('\n'));
      } finally {
        runShell(`for port in 53 54; do iptables -t raw -D PREROUTING ${plain} $port; done
          for dev in underlay0 underlay1; do ip link set $dev mtu 1500; done`);
      }
    });

    await context.test('fast path: leaves frames with a VLAN tag to the link of the VLAN', () => {
      const counted = '-i vlan10 -p udp -m udp --dport 53';
      runShell(`for dev in underlay0 underlay1; do ip link set $dev mtu 9000; done
        ip link add link ${UNDERLAY_LINK} name vlan10 mtu 9000 type vlan id 10; ip link set vlan10 up
        iptables -t raw -I PREROUTING ${counted}`);
      const [underlay] = runJson<{ address: string }>(`ip -j link show ${UNDERLAY_LINK}`);
      try {
        execFileSync('python3', ['-c', PAGED, '53', underlay!.address, '8100000a']);
        assert.match(runShell('iptables -t raw -S PREROUTING -v'), /-i vlan10 .* -c 3 /);
      } finally {
        runShell(`iptables -t raw -D PREROUTING ${counted}; ip link del vlan10
          for dev in underlay0 underlay1; do ip link set $dev mtu 1500; done`);
      }
    });

    for (const [name, command] of DAMAGE_CASES)
      await context.test(`fast path: ${name}`, () => damageAndRepair(command));

    await context.test('fast path: reports what others do to filters, not its own changes', async () => {
      const scopes: Scope[] = [];
      const stop = node.kernel.watch((scope) => scopes.push(scope));
      const isReported = () =>
        scopes.some(({ netns, kinds }) => netns?.includes(NETWORK) && kinds?.includes('fast-path'));
      try {
        await sleep(300);
        scopes.length = 0;
        const object = FAST_PATH_OBJECTS.find((one) => keyOf(one) === `fast-path ${NETWORK} lb0`)!;
        assert.deepEqual(
          (
            await node.kernel.apply([
              { verb: 'delete', object },
              { verb: 'create', object },
            ])
          ).failed,
          [],
        );
        runShell(`tc -n ${NETWORK} filter add dev lb0 ingress pref 9 bpf direct-action bytecode '1,6 0 0 4294967295,'`);
        await sleep(500);
        assert.deepEqual(scopes, []);
        runShell(
          `tc -n ${NETWORK} filter del dev lb0 ingress pref 9; tc -n ${NETWORK} filter del dev lb0 ingress pref 4096`,
        );
        for (let i = 0; i < 100 && !isReported(); i++) await sleep(50);
        assert.ok(isReported(), JSON.stringify(scopes));
        await applyState(node.want);
      } finally {
        stop();
      }
    });

    await context.test('fast path: is removed, and what is not ours stays', async () => {
      const ingress = `tc filter show dev ${UNDERLAY_LINK} ingress`;
      // The qdisc is ours by now, the filter of another program on it is not.
      runShell(`tc filter add dev ${UNDERLAY_LINK} ingress pref 7 bpf direct-action bytecode '1,6 0 0 4294967295,'`);
      await applyState(plain);
      assert.match(runShell(ingress), /pref 7 /);
      assert.doesNotMatch(runShell(ingress), /pref 4096/);
      assert.doesNotMatch(runShell(`tc qdisc show dev mesh0; tc -n ${NETWORK} qdisc show`), /clsact/);
      await applyState(node.want);
      runShell(`tc qdisc del dev ${UNDERLAY_LINK} clsact; tc qdisc add dev ${UNDERLAY_LINK} clsact`);
      await applyState(node.want);
      node.want = plain;
      await applyState(plain);
      assert.match(runShell(`tc qdisc show dev ${UNDERLAY_LINK}`), /clsact/);
    });
    runShell(`tc qdisc del dev ${UNDERLAY_LINK} clsact || true`);
  });
}

import { readFileSync } from 'node:fs';
import { silentLog } from '../../src/base/log.ts';
import { diff } from '../../src/diff/diff.ts';
import { openLinuxKernel } from '../../src/kernel/linux.ts';
import type { AssignedPort, AssignedTask, Assignment, Peer } from '../../src/model/assignment.ts';
import { addressAt, blockOf } from '../../src/model/block.ts';
import type { KernelObject } from '../../src/model/kernel-state.ts';
import { vtepMac } from '../../src/model/names.ts';
import { plan } from '../../src/plan/plan.ts';

/*
 * mesh-node NUMBER PEERS PORTS: makes this node's kernel what meshd's agent would, from an assignment written here
 * instead of a manager's: the real plan, diff and driver, no daemon that runs beside what is measured.
 * One task on node 3 with the ports of system.sh; PEERS nodes in all; PORTS further published ports of that task.
 */

const [number = 1, peers = 3, extra = 0] = process.argv.slice(2).map(Number);
const SUBNET = '10.252.0.0/16';
const TASK = 'benchbenchbe';
const TASK_NODE = 3;
const PUBLISHED: readonly (readonly ['tcp' | 'udp', number, number])[] = [
  ['tcp', 8080, 80],
  ['udp', 9000, 9000],
  ['udp', 9002, 9002],
  ['tcp', 5201, 5201],
  ['tcp', 5202, 5202],
];

const block = (node: number) => blockOf(SUBNET, 25, node)!;
const taskAddress = addressAt(block(TASK_NODE), 5);
// Peers past the third exist in tables only; their underlay addresses lead nowhere.
const underlay = (node: number) => (node <= 3 ? `192.168.77.1${node}` : `198.18.${node >> 8}.${node & 255}`);

function peer(node: number): Peer {
  const blocks = [{ networkId: 'n', family: 'inet' as const, block: block(node) }];
  return { nodeId: `node${node}`, number: node, underlay: underlay(node), mac: vtepMac(node), blocks };
}

function port(protocol: 'tcp' | 'udp', published: number, target: number): AssignedPort {
  const endpoint = { taskId: TASK, nodeId: `node${TASK_NODE}`, address: taskAddress, port: target, weight: 1 };
  const service = { serviceId: 's', serviceName: 'bench', mode: 'ingress', scheduler: 'rr' } as const;
  return { ...service, protocol, published, endpoints: [endpoint] };
}

const task: AssignedTask = {
  id: TASK,
  serviceId: 's',
  serviceName: 'bench',
  slot: 1,
  desired: 'running',
  addresses: [{ networkId: 'n', address: taskAddress }],
  process: { command: ['serve'], workingDir: '/', environment: {} },
  targets: [],
  stopGracePeriod: 1_000,
};

const assignment: Assignment = {
  revision: 1,
  self: { nodeId: `node${number}`, name: `node${number}`, number, underlay: underlay(number) },
  networks: [
    { id: 'n', name: 'ingress', vni: 4096, subnets: [{ family: 'inet', cidr: SUBNET, block: block(number) }] },
  ],
  peers: Array.from({ length: peers }, (_, index) => index + 1)
    .filter((node) => node !== number)
    .map(peer),
  ports: [
    ...PUBLISHED.map(([protocol, published, target]) => port(protocol, published, target)),
    ...Array.from({ length: extra }, (_, index) => port('tcp', 20_001 + index, 80)),
  ],
  tasks: number === TASK_NODE ? [task] : [],
};

const [, major, minor] = /^(\d+)\.(\d+)/.exec(readFileSync('/proc/sys/kernel/osrelease', 'utf8'))!;
const want = withoutZones(
  plan(assignment, {
    underlayMtu: 1500,
    kernel: { major: Number(major), minor: Number(minor) },
    families: ['inet'],
  }),
);
const kernel = await openLinuxKernel({ log: silentLog(), wanted: () => want });
const { failed } = await kernel.apply(diff(await kernel.observe(), want));
for (const { error } of failed) process.stderr.write(`mesh-node: ${error.message}\n`);
kernel.close();
process.exit(failed.length === 0 ? 0 : 1);

/**
 * The user-mode kernel has no conntrack zones, so the one rule that needs them is left out: it only tells apart two
 * clients that come through different nodes with one address and port, which no bench does. It costs one rule less.
 */
function withoutZones(state: Map<string, KernelObject>): Map<string, KernelObject> {
  for (const [key, object] of state) {
    if (object.kind !== 'chain') continue;
    state.set(key, { ...object, rules: object.rules.filter((rule) => !rule.includes('--zone-orig')) });
  }
  return state;
}

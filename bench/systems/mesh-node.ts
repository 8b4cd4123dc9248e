import { silentLog } from '../../src/base/log.ts';
import { diff } from '../../src/diff/diff.ts';
import { openLinuxKernel } from '../../src/kernel/driver/linux-kernel.ts';
import type { AssignedTask } from '../../src/model/assignment.ts';
import { plan } from '../../src/plan/plan.ts';
import { node, nodeCapabilities, port, taskAddress, withoutZones } from '../assignment.ts';

/*
 * mesh-node NUMBER PEERS PORTS FAST_PATH: makes this node's kernel what meshd's agent would, from an assignment written here
 * instead of by a manager: the real plan, diff and driver, without a daemon that runs during the measurement.
 * One task on node 3 with the ports of system.sh; PEERS nodes in total; PORTS further published ports of that task;
 * FAST_PATH full or off, as in meshd --fast-path.
 */

const [number = 1, nodes = 3, extra = 0] = process.argv.slice(2, 5).map(Number);
const fastPath = process.argv[5] === 'off' ? undefined : { link: 'eth0' };
const TASK_NODE = 3;
const PUBLISHED: readonly (readonly ['tcp' | 'udp', number, number])[] = [
  ['tcp', 8080, 80],
  ['udp', 9000, 9000],
  ['udp', 9002, 9002],
  ['tcp', 5201, 5201],
  ['tcp', 5202, 5202],
];

const task: AssignedTask = {
  id: 'benchbenchbe',
  serviceId: 's',
  serviceName: 'bench',
  slot: 1,
  desired: 'running',
  addresses: [{ networkId: 'n', address: taskAddress(TASK_NODE, 0) }],
  process: { command: ['serve'], workingDir: '/', environment: {} },
  targets: [],
  stopGracePeriod: 1_000,
};

const assignment = node(number, nodes);
assignment.ports = [
  ...PUBLISHED.map(([protocol, published, target]) => port(protocol, published, target, [[TASK_NODE, 0]])),
  ...Array.from({ length: extra }, (_, index) => port('tcp', 20_001 + index, 80, [[TASK_NODE, 0]])),
];
assignment.tasks = number === TASK_NODE ? [task] : [];

const desired = withoutZones(plan(assignment, { ...nodeCapabilities(), fastPath }));
const kernel = await openLinuxKernel({ log: silentLog(), desired: () => desired });
const { failed } = await kernel.apply(diff(await kernel.observe(), desired));
for (const { error } of failed) process.stderr.write(`mesh-node: ${error.message}\n`);
kernel.close();
process.exit(failed.length === 0 ? 0 : 1);

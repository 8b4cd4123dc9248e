import { execFileSync, spawnSync } from 'node:child_process';
import type { Assignment } from '../../src/model/assignment.ts';
import { ruleText } from '../../src/model/kinds/firewall-rule.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import { CAPABILITIES } from '../../src/plan/assignments.test-data.ts';
import { plan } from '../../src/plan/plan.ts';

/** Where the driver's tests run: a netns in the role of the host, with /run/netns of its own, and an underlay address. */

const SANDBOX_VARIABLE = 'MESH_DRIVER_INSIDE';
/** Set to skip IPVS on a kernel that lacks it. */
export const withoutIpvs = process.env['MESH_DRIVER_WITHOUT'] === 'ipvs';
const UNDERLAY = '192.0.2.1';
/** Namespaces of the node the tests build. */
export const TASK = 'mesh-task-aaaaaaaaaaaa';
export const NETWORK = 'mesh-net-ingress';

/** Runs this program again inside, and ends with its status; returns at once when inside already. */
export function enterSandbox(): void {
  if (process.env[SANDBOX_VARIABLE] === '1') return;
  const script = [
    'mkdir -p /run/netns',
    'mount -t tmpfs tmpfs /run/netns',
    'ip link set lo up',
    'ip link add underlay0 type veth peer name underlay1',
    `ip addr add ${UNDERLAY}/24 dev underlay0`,
    'ip link set underlay0 up',
    'ip link set underlay1 up',
    'exec "$@"',
  ].join(' && ');
  const again = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const { status } = spawnSync('unshare', ['--net', '--mount', 'sh', '-c', script, 'sh', ...again], {
    stdio: 'inherit',
    env: { ...process.env, [SANDBOX_VARIABLE]: '1' },
  });
  process.exit(status ?? 1);
}

/** Runs a shell command line; returns its standard output. Throws with its error output when it fails. */
export function runShell(command: string): string {
  return execFileSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** What a tool prints with `-j`; it prints nothing at all for an empty list. */
export function runJson<T>(command: string): T[] {
  const text = runShell(command).trim();
  return text === '' ? [] : (JSON.parse(text) as T[]);
}

/** The planned state of an assignment, without what is skipped on this kernel. */
export function desiredStateOf(assignment: Assignment): Map<string, KernelObject> {
  const desired = plan(assignment, { ...CAPABILITIES, kernel: kernelVersion() });
  if (!withoutIpvs) return desired;
  const ipvs = (object: KernelObject) =>
    ['ipvs-timeouts', 'virtual-service', 'real-server'].includes(object.kind) ||
    (object.kind === 'sysctl' && object.name.startsWith('net.ipv4.vs.'));
  const clients = 'mesh-from-';
  const named = (object: KernelObject) =>
    (object.kind === 'ipset' && object.name.startsWith(clients)) ||
    (object.kind === 'set-entry' && object.set.startsWith(clients));
  const rest = [...desired].filter(([, object]) => !ipvs(object) && !named(object));
  // Kernels without IPVS are made small by hand, and lack hash:net,port,net as well.
  return new Map(
    rest.map(([key, object]): [string, KernelObject] => {
      if (object.kind !== 'chain') return [key, object];
      return [key, { ...object, rules: object.rules.filter((rule) => !ruleText(rule).includes(clients)) }];
    }),
  );
}

function kernelVersion(): { major: number; minor: number } {
  const [major = 0, minor = 0] = runShell('uname -r').split('.').map(Number);
  return { major, minor };
}

/** Waits so many ms. */
export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

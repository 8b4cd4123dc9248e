import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { updateView } from '../src/agent/reconcile/assignment-view.ts';
import { silentLog } from '../src/base/log.ts';
import { diff } from '../src/diff/diff.ts';
import { openLinuxKernel } from '../src/kernel/driver/linux-kernel.ts';
import { tuneHeap } from '../src/main/heap-size.ts';
import type { AssignedPort, Assignment } from '../src/model/assignment.ts';
import { type Op, stateOf } from '../src/model/kernel-state.ts';
import { keyedAssignment } from '../src/model/keyed-assignment.ts';
import type { KernelObject } from '../src/model/kinds/registry.ts';
import { LB_NETNS, portMark } from '../src/model/linux-names.ts';
import { portKey } from '../src/model/spec.ts';
import { plan } from '../src/plan/plan.ts';
import { node, nodeCapabilities, port, taskAddress, withoutZones } from './assignment.ts';

/*
 * programming SERVICES: time until one node's kernel contains that many services of two real servers each, and time
 * for one change among them: by meshd's plan, diff and driver, then by ipvsadm. The caller provides a separate netns.
 * Standard output: lines `SYSTEM METRIC UNIT HOW VALUE…` for record().
 */

const services = Number(process.argv[2]);
const CHANGES = 40;
const SINGLE_RUNS = 20;
/** Limit for also calling ipvsadm once for every service and server: three times as many programs. */
const MAX_SINGLE_CALLS = 1000;
const CAPABILITIES = nodeCapabilities();
const printFigure = (system: string, metric: string, unit: string, how: string, ...values: number[]) =>
  process.stdout.write(`${system} ${metric} ${unit} ${how} ${values.map((value) => +value.toFixed(3)).join(' ')}\n`);
const milliseconds = () => Number(process.hrtime.bigint()) / 1e6;

// As in the daemon: the state at startup, then the desired state.
tuneHeap(0);
tuneHeap(services);
mkdirSync('/run/netns', { recursive: true });
const empty = node(1, 3);
const published: AssignedPort[] = [];
for (let index = 0; index < services; index++) {
  published.push(port('tcp', 1 + index, 80, [[2, index % 100], [3, index % 100]])); // biome-ignore format: one line
}

let want: ReadonlyMap<string, KernelObject> = withoutZones(plan(empty, CAPABILITIES));
const kernel = await openLinuxKernel({ log: silentLog(), desired: () => want });
await apply('skeleton', diff(await kernel.observe(), want));

/** Applies and aborts the benchmark at the first failure: a figure about a partial state is useless. */
async function apply(what: string, ops: readonly Op[]) {
  const report = await kernel.apply(ops);
  if (report.failed.length > 0) throw new Error(`${what}: ${report.failed[0]!.error.message}`);
  return report;
}

function startMeter() {
  const start = milliseconds();
  const cpu = process.cpuUsage();
  const before = kernel.counters();
  return () => {
    const used = process.cpuUsage(cpu);
    const after = kernel.counters();
    return {
      time: milliseconds() - start,
      cpu: (used.user + used.system) / 1000,
      sends: after.sends - before.sends,
      messages: after.messages - before.messages,
      bytes: after.bytes - before.bytes,
      observes: after.observes - before.observes,
    };
  };
}

// Cold: the assignment is available, the kernel has no services.
const fullAssignment: Assignment = { ...empty, revision: 2, ports: published };
let stop = startMeter();
const desired = withoutZones(plan(fullAssignment, CAPABILITIES));
const planned = milliseconds();
const ops = diff(want, desired);
const compared = milliseconds();
await apply('cold', ops);
const applied = milliseconds();
const cold = stop();
want = desired;
printFigure('meshd', 'cold', 'ms', 'min', cold.time);
printFigure('meshd', 'cold_plan', 'ms', 'min', cold.time - (applied - planned));
printFigure('meshd', 'cold_diff', 'ms', 'min', compared - planned);
printFigure('meshd', 'cold_apply', 'ms', 'min', applied - compared);
printFigure('meshd', 'cold_cpu', 'ms', 'min', cold.cpu);
printFigure('meshd', 'cold_sends', 'count', 'min', cold.sends);
printFigure('meshd', 'cold_messages', 'count', 'min', cold.messages);
printFigure('meshd', 'cold_bytes', 'bytes', 'min', cold.bytes);

// One change among all: a third server is added to a service and removed again, processed like a delta in the agent.
const view = keyedAssignment(fullAssignment);
async function change(ports: AssignedPort[], removedPorts: string[] = []) {
  const delta = { revision: view.revision + 1, ports, removedPorts };
  stop = startMeter();
  const { had: before, want: after } = updateView(view, delta, () => undefined, CAPABILITIES);
  await apply('change', diff(stateOf(before), stateOf(after)));
  return stop();
}
const middle = published[services >> 1]!;
const grown = port('tcp', middle.published, 80, [[2, 1], [3, 1], [3, 99]]); // biome-ignore format: one line
const shrunk = { ...grown, endpoints: grown.endpoints.slice(0, 2) };
await change([shrunk]);
const changes = [];
for (let index = 0; index < CHANGES; index++) changes.push(await change([index % 2 === 0 ? grown : shrunk]));
printFigure('meshd', 'one', 'ms', 'median', ...changes.map(({ time }) => time));
printFigure('meshd', 'one_cpu', 'ms', 'median', changes.reduce((sum, { cpu }) => sum + cpu, 0) / CHANGES);
printFigure('meshd', 'one_sends', 'count', 'median', ...changes.map(({ sends }) => sends));
printFigure('meshd', 'one_messages', 'count', 'median', ...changes.map(({ messages }) => messages));
printFigure('meshd', 'one_bytes', 'bytes', 'median', ...changes.map(({ bytes }) => bytes));
printFigure('meshd', 'one_dumps', 'count', 'max', ...changes.map(({ observes }) => observes));

// Publishing one more port: the balancer and two sets, in two namespaces.
const extra = port('tcp', services + 1, 80, [[2, 0], [3, 0]]); // biome-ignore format: one line
const publishes = [];
for (let index = 0; index < CHANGES; index++) {
  publishes.push(await (index % 2 === 0 ? change([extra]) : change([], [portKey(extra)])));
}
printFigure('meshd', 'publish', 'ms', 'median', ...publishes.map(({ time }) => time));
printFigure('meshd', 'publish_sends', 'count', 'median', ...publishes.map(({ sends }) => sends));

// An observation of everything, and a change during it.
stop = startMeter();
await kernel.observe();
const audit = stop();
printFigure('meshd', 'audit', 'ms', 'min', audit.time);
printFigure('meshd', 'audit_cpu', 'ms', 'min', audit.cpu);
const during: number[] = [];
for (let index = 0; index < 6; index++) {
  const observation = kernel.observe();
  await new Promise((resolve) => setTimeout(resolve, audit.time / 3));
  during.push((await change([index % 2 === 0 ? grown : shrunk])).time);
  await observation;
}
printFigure('meshd', 'one_during_audit', 'ms', 'median', ...during);
printFigure('meshd', 'rss', 'bytes', 'max', process.memoryUsage.rss());
kernel.close();

// The same services by ipvsadm, which does not use sets: the balancer alone, in a separate netns.
const lines = published.flatMap(({ published: number, endpoints }) => {
  const mark = portMark('tcp', number);
  return [`-A -f ${mark} -s rr`, ...endpoints.map(({ address }) => `-a -f ${mark} -r ${address}:80 -m -w 1`)];
});
execFileSync('sh', ['-c', 'ip netns add ipvsadm && ip -n ipvsadm link set lo up']); // otherwise no address counts as unicast
const within = (script: string, input = '') =>
  execFileSync('ip', ['netns', 'exec', 'ipvsadm', 'bash', '-c', script], { input, stdio: ['pipe', 'pipe', 'inherit'] });
/** Duration of a script in ms, without the start of the shell. */
const timed = (script: string, input = '') =>
  Number(within(`set -e; s=$EPOCHREALTIME; ${script}; e=$EPOCHREALTIME; echo $(( \${e/./} - \${s/./} ))`, input)) /
  1000;
if (services <= MAX_SINGLE_CALLS) {
  const each = 'while read -r line; do ipvsadm $line; done';
  printFigure('ipvsadm', 'cold_each', 'ms', 'min', timed(each, `${lines.join('\n')}\n`));
  within('ipvsadm -C');
}
printFigure('ipvsadm', 'cold', 'ms', 'min', timed('ipvsadm -R', `${lines.join('\n')}\n`));
for (const netns of [LB_NETNS, 'ipvsadm']) {
  const held = execFileSync('ip', ['netns', 'exec', netns, 'bash', '-c', 'ipvsadm -Ln | grep -c "^FWM\\|->.*:80 "']);
  if (Number(held) !== services * 3) throw new Error(`${netns} has ${held} lines instead of ${services * 3}`);
}
const mark = portMark('tcp', middle.published);
const server = `${taskAddress(3, 99)}:80`;
const one: number[] = [];
for (let index = 0; index < SINGLE_RUNS; index++) {
  one.push(timed(index % 2 === 0 ? `ipvsadm -a -f ${mark} -r ${server} -m` : `ipvsadm -d -f ${mark} -r ${server}`));
}
printFigure('ipvsadm', 'one', 'ms', 'median', ...one);
process.exit(0);

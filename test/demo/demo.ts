// The demo: eight steps on a live mesh of three nodes with measured figures; `demo ok` only if every check passed.
import { existsSync } from 'node:fs';
import {
  addressOf,
  listRows,
  meshctl,
  nodeNames,
  type ProbeClient,
  parseWhoami,
  runOn,
  sleep,
  startProbe,
  stdoutOf,
  waitFor,
} from '../scenarios/harness.ts';

const failedExpectations: string[] = [];
const figures: string[] = [];

function heading(number: number, text: string): void {
  console.log(`\n\x1b[1m── ${number}. ${text}\x1b[0m`);
}

function check(condition: boolean, shortfall: string): void {
  if (condition) return;
  failedExpectations.push(shortfall);
  console.log(`\x1b[31m✗ ${shortfall}\x1b[0m`);
}

/** Runs a command and prints it with a prompt, followed by its output. */
async function show(host: string, ...command: string[]): Promise<void> {
  const words = command.map((word) => (/^[\w./:=@%+,-]+$/.test(word) ? word : `'${word}'`)).join(' ');
  console.log(`\x1b[2m${host}#\x1b[0m ${words}`);
  const { status, stdout, stderr } = await runOn(host, ...command);
  process.stdout.write(stdout + stderr);
  check(status === 0, `${words}: exit status ${status}`);
}

const urls = nodeNames().map((node) => `http://${addressOf(node)}:8080/`);
const running = async () => (await listRows('service', 'ps', 'web')).filter((task) => task['state'] === 'running');

/** Time until `condition` holds, in ms. */
async function measure(what: string, condition: () => Promise<boolean>): Promise<number> {
  const started = performance.now();
  await waitFor(what, 60_000, condition);
  return Math.round(performance.now() - started);
}

async function callEveryNode(client: ProbeClient): Promise<void> {
  for (const [index, url] of urls.entries()) {
    const tasks = new Set<string>();
    const addresses = new Set<string>();
    for (let call = 0; call < 6; call += 1) {
      const answer = parseWhoami(await client.http(url));
      tasks.add(`${answer.task} on ${answer.node}`);
      addresses.add(answer.address);
    }
    console.log(
      `node${index + 1}  ${url}  →  ${[...tasks].sort().join(', ')}; client seen as ${[...addresses].join(', ')}`,
    );
    check(tasks.size === 3, `node${index + 1}: answers from ${tasks.size} tasks instead of 3`);
    check([...addresses].join() === addressOf('client'), `node${index + 1}: the client address was not kept`);
  }
}

async function scaleUnderLoad(client: ProbeClient): Promise<void> {
  await client.startLoad('calls', urls, { parallel: 4, pause: 50 });
  for (const replicas of [5, 2]) {
    await show('node1', 'meshctl', 'service', 'scale', `web=${replicas}`);
    await sleep(1_000);
  }
  const load = await client.stopLoad('calls');
  console.log(
    `${load.answered} calls answered, ${load.failed} failed ${load.failed ? JSON.stringify(load.errors) : ''}`,
  );
  check(load.failed === 0, `${load.failed} calls failed while scaling`);
  figures.push(`scaling: ${load.answered} calls, ${load.failed} failed`);
}

async function killTask(client: ProbeClient): Promise<void> {
  const [victim] = await running();
  const address = String((victim?.['addresses'] as { address: string }[] | undefined)?.[0]?.address ?? '');
  console.log(`kill -9 ${victim?.['pid']}  (${victim?.['name']} ${victim?.['id']} on ${victim?.['node']})`);
  await stdoutOf(runOn(String(victim?.['node']), 'kill', '-9', String(victim?.['pid'])));
  const gone = Promise.all(
    nodeNames().map((node) =>
      measure(`${node} removed the task from its balancer`, async () => {
        const listing = await stdoutOf(runOn(node, 'ip', 'netns', 'exec', 'mesh-lb', 'ipvsadm', '-Sn'));
        return !listing.includes(`${address}:`);
      }),
    ),
  );
  const replaced = measure('the replacement responds', async () => {
    const ids = new Set<string>();
    for (let call = 0; call < 4; call += 1) {
      const text = await client.http(urls[0]!, { timeout: 2_000 }).catch(() => undefined);
      if (text !== undefined) ids.add(parseWhoami(text).id);
    }
    return ids.size === 2 && !ids.has(String(victim?.['id']));
  });
  const [left, answered] = await Promise.all([gone, replaced]);
  console.log(`out of the balancer: ${left.map((ms, index) => `node${index + 1} ${ms} ms`).join(', ')}`);
  console.log(`replacement responded after ${answered} ms`);
  figures.push(`kill: out of every balancer in ${Math.max(...left)} ms, replaced in ${answered} ms`);
}

async function demoRepair(client: ProbeClient): Promise<void> {
  await show('node1', 'ip', 'netns', 'exec', 'mesh-lb', 'ipvsadm', '--clear');
  await show('node1', 'ip', '-n', 'mesh-net-ingress', 'link', 'del', 'vxlan0');
  const healed = await measure('node1 responds again', async () => {
    for (let call = 0; call < 3; call += 1) {
      if ((await client.http(urls[0]!, { timeout: 1_000 }).catch(() => undefined)) === undefined) return false;
    }
    const [diff] = JSON.parse(await stdoutOf(runOn('node1', 'meshctl', 'diff', '--format', 'json')));
    return diff.steps.length === 0;
  });
  console.log(`repaired after ${healed} ms`);
  figures.push(`repair: ${healed} ms`);
}

async function demo(): Promise<void> {
  heading(1, 'meshctl apply examples/service.yaml');
  await show('node1', 'meshctl', 'apply', 'examples/service.yaml');
  for (const verb of ['service ls', 'service ps web', 'node ls']) await show('node1', 'meshctl', ...verb.split(' '));
  const tasks = await running();
  check(tasks.length === 3, `${tasks.length} tasks run instead of 3`);
  check(
    tasks.every((task) => task['node'] !== 'node1'),
    'a task runs on node1 against the constraint',
  );

  heading(2, 'an outside client calls port 8080 of every node');
  const client = startProbe('client', 'dist/probe.mjs');
  await callEveryNode(client);

  heading(3, 'localhost on node1, which runs no task');
  await show('node1', 'curl', '-s', '-m', '5', 'http://localhost:8080/');

  heading(4, 'scale to 5, then to 2, while a client sends requests');
  await scaleUnderLoad(client);

  heading(5, 'kill -9 of a task');
  await killTask(client);

  heading(6, 'flush IPVS and delete the vxlan device on node1');
  await demoRepair(client);

  heading(7, 'the kernel state of node1');
  await show('node1', 'ip', 'netns', 'exec', 'mesh-lb', 'ipvsadm', '-Ln');
  await show('node1', 'ipset', 'list', 'mesh-pub-tcp');
  await show('node1', 'bridge', '-n', 'mesh-net-ingress', 'fdb', 'show', 'dev', 'vxlan0');

  heading(8, 'remove the service');
  client.close();
  check((await meshctl('service', 'rm', 'web')).status === 0, 'service rm web failed');
}

if (!existsSync('dist/probe.mjs')) throw new Error('dist/probe.mjs is missing: run this with `make demo`');
await demo().catch((error: Error) => check(false, error.message));
if (failedExpectations.length > 0) {
  console.log(`\ndemo FAILED: ${failedExpectations.join('; ')}`);
  process.exit(1);
}
console.log(`demo ok: ${figures.join('; ')}`);
process.exit(0);

// Ingress: every published port on every node, from every source, preserving the client address.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  addressOf,
  listRows,
  nodeNames,
  type ProbeClient,
  parseWhoami,
  runOn,
  sleep,
  stdoutOf,
  waitFor,
} from './harness.ts';
import { applyWeb, type Counters, clientProbe, probeOn, readCounters, runningTasks } from './shared.ts';

const client = addressOf('client');
let outsideClient: ProbeClient;

before(async () => {
  outsideClient = await clientProbe();
  await applyWeb({ replicas: 2 });
});

for (const node of nodeNames()) {
  test(`a client on ${node}:8080 reaches every task and is seen with its own address`, async () => {
    const tasks = new Set<string>();
    for (let call = 0; call < 6; call += 1) {
      const answer = parseWhoami(await outsideClient.http(`http://${addressOf(node)}:8080/`));
      assert.equal(answer.address, client);
      assert.notEqual(answer.node, 'node1');
      tasks.add(answer.task);
    }
    assert.deepEqual([...tasks].sort(), ['web.1', 'web.2']);
  });

  test(`localhost:8080 on ${node} responds`, async () => {
    const here = await probeOn(node);
    for (let call = 0; call < 4; call += 1) parseWhoami(await here.http('http://127.0.0.1:8080/'));
  });

  test(`${node} reaches its own address and the next node's`, async () => {
    const here = await probeOn(node);
    const names = nodeNames();
    const next = names[(names.indexOf(node) + 1) % names.length]!;
    parseWhoami(await here.http(`http://${addressOf(node)}:8080/`));
    const answer = parseWhoami(await here.http(`http://${addressOf(next)}:8080/`));
    assert.equal(answer.address, addressOf(node));
  });

  test(`[::1]:8080 on ${node} responds or is refused at once`, async () => {
    const here = await probeOn(node);
    const outcome = await here.http('http://[::1]:8080/', { timeout: 3_000 }).catch((error: Error) => error.message);
    assert.doesNotMatch(outcome, /no response/);
  });

  test(`UDP 5353 → 53 through ${node}, client address preserved`, async () => {
    const seen = new Set<string>();
    for (let call = 0; call < 4; call += 1) {
      const answer = parseWhoami(await outsideClient.udp(addressOf(node), 5353));
      assert.equal(answer.address, client);
      seen.add(answer.task);
    }
    assert.equal(seen.size, 2);
  });
}

test('the task sees the original client port', async () => {
  const answer = parseWhoami(await outsideClient.http(`http://${addressOf('node1')}:8080/`, { localPort: 45_678 }));
  assert.equal(answer.port, 45_678);
});

test('one source port through three nodes to the same tasks at once', async () => {
  const calls = nodeNames().flatMap((node) =>
    [5555, 5556].map((localPort) => outsideClient.http(`http://${addressOf(node)}:8080/?wait=1500`, { localPort })),
  );
  for (const answer of await Promise.all(calls)) assert.equal(parseWhoami(answer).address, client);
});

test('an unpublished port is refused by the host itself', async () => {
  await assert.rejects(outsideClient.http(`http://${addressOf('node1')}:8081/`, { timeout: 5_000 }), /ECONNREFUSED/);
});

test('published ports work with FORWARD policy DROP on every node', async () => {
  for (const node of nodeNames()) await stdoutOf(runOn(node, 'iptables', '-P', 'FORWARD', 'DROP'));
  try {
    for (const node of nodeNames()) parseWhoami(await outsideClient.http(`http://${addressOf(node)}:8080/`));
  } finally {
    for (const node of nodeNames()) await stdoutOf(runOn(node, 'iptables', '-P', 'FORWARD', 'ACCEPT'));
  }
});

test('large requests and responses cross the overlay intact', async () => {
  const here = await probeOn('node1');
  // 200 kB of cookies would be rejected by HTTP; whoami truncates a long path at 16 kB, which is many full-size segments.
  const long = 'x'.repeat(12_000);
  parseWhoami(await outsideClient.http(`http://${addressOf('node1')}:8080/${long}`));
  parseWhoami(await here.http(`http://127.0.0.1:8080/${long}`));
});

test('200 parallel clients while tasks are added and removed: no failed request', async () => {
  const urls = nodeNames().map((node) => `http://${addressOf(node)}:8080/`);
  await outsideClient.startLoad('crowd', urls, { parallel: 200, timeout: 30_000, pause: 500 });
  for (const replicas of [4, 1, 3, 2]) {
    await applyWeb({ replicas });
    await sleep(500);
  }
  const figures = await outsideClient.stopLoad('crowd');
  assert.deepEqual(figures.errors, {});
  assert.ok(figures.answered >= 200, `only ${figures.answered} answers`);
  console.log(
    `# 200 clients: ${figures.answered} answers, ${figures.failed} failed, slowest ${Math.round(figures.slowest)} ms`,
  );
});

test('scaling down removes a task from the balancers before it stops: open requests are completed', async () => {
  await applyWeb({ replicas: 3 });
  const slow = Array.from({ length: 6 }, () => outsideClient.http(`http://${addressOf('node2')}:8080/?wait=2000`));
  await sleep(300);
  await applyWeb({ replicas: 1 });
  for (const answer of await Promise.all(slow)) parseWhoami(answer);
  await waitFor('one remaining task', 30_000, async () => (await runningTasks('web')).length === 1);
  await applyWeb({ replicas: 2 });
});

// Each task redirects the second published port of its target, in its own netns; node1 has no tasks.
test('an added port costs at most 3 sends per node and no run of iptables outside of tasks, and changes nothing else', async () => {
  const names = nodeNames();
  const state = async (node: string) => ({
    rules: await stdoutOf(
      runOn(
        node,
        'sh',
        '-c',
        'for n in mesh-lb mesh-net-ingress; do ip netns exec $n iptables-save; done; iptables-save',
      ),
    ),
    links: await stdoutOf(
      runOn(node, 'sh', '-c', 'for n in $(ls /run/netns); do ip -n $n -o link; ip -n $n route show table all; done'),
    ),
  });
  const quiet = (text: string) => text.replace(/^#.*$/gm, '').replace(/\[\d+:\d+\]/g, '');
  const earlier = await Promise.all(names.map(state));
  const nodesOfTasks = (await runningTasks('web')).map(({ node }) => node);
  /** What a node has done more of than it may. */
  const excess = async (node: string, then: Counters) => {
    const now = await readCounters(node);
    const limits = {
      sends: 3,
      // pub member, svc member, virtual service, and one real server for each of the two tasks
      messages: 5,
      firewallRuns: nodesOfTasks.filter((name) => name === node).length,
    };
    return (Object.keys(limits) as (keyof typeof limits)[]).flatMap((name) => {
      const count = now[name] - then[name];
      return count > limits[name] ? [`${node}: ${count} ${name}`] : [];
    });
  };
  // An overloaded test host may lose a session meanwhile, after which the node checks everything.
  for (let attempt = 1; ; attempt += 1) {
    const counters = await Promise.all(names.map(readCounters));
    await applyWeb({ replicas: 2, ports: ['8080:80', '5353:53/udp', '9090:80'] });
    await Promise.all(
      names.map(async (node) => parseWhoami(await outsideClient.http(`http://${addressOf(node)}:9090/`))),
    );
    const found = (await Promise.all(names.map((node, index) => excess(node, counters[index]!)))).flat();
    if (found.length === 0) break;
    assert.ok(attempt < 3, found.join(', '));
    await applyWeb({ replicas: 2 });
  }
  for (const [index, node] of names.entries()) {
    const after = await state(node);
    assert.equal(quiet(after.rules), quiet(earlier[index]!.rules));
    assert.equal(after.links, earlier[index]!.links);
  }
  await applyWeb({ replicas: 2 });
  await assert.rejects(outsideClient.http(`http://${addressOf('node2')}:9090/`, { timeout: 5_000 }), /ECONNREFUSED/);
  const tasks = await listRows('service', 'ps', 'web');
  assert.ok(tasks.length >= 2);
});

// meshd upgraded and rolled back under load, and a long absence of the managers while agents restart.
import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { nodeInfo } from '../torture/queries.ts';
import { addressOf, nodeNames, parseWhoami, run, runOn, sleep, stdoutOf, waitFor } from './harness.ts';
import { applyWeb, clientProbe, LIGHT_LOAD } from './shared.ts';

const OTHER = '99.9.9';

/**
 * How long the managers are stopped, in seconds. Longer than every timeout of meshd: 5 s until the assignment on disk is
 * used, 30 s until a node is down. `TEST_ABSENCE=3600` tests the documented hour.
 */
const DOWNTIME_SECONDS = Number(process.env['TEST_ABSENCE'] ?? 45);

/** A copy of the programs with another version number. */
function buildOtherVersion(): string {
  // In the checkout, so that it finds the same packages; the test host discards writes.
  const copy = resolve('.cache/other-version');
  cpSync(resolve('dist'), join(copy, 'dist'), { recursive: true });
  const version = JSON.parse(readFileSync('package.json', 'utf8')).version as string;
  const chunks = [join(copy, 'dist/meshd.mjs'), ...list(join(copy, 'dist/chunks'))];
  for (const file of chunks) {
    const text = readFileSync(file, 'utf8');
    const changed = text.replaceAll(`"${version}"`, `"${OTHER}"`);
    if (changed !== text) writeFileSync(file, changed);
  }
  // The native binaries are found beside the bundle.
  return `node ${join(copy, 'dist/meshd.mjs')}`;
}

const list = (directory: string) => readdirSync(directory).map((name) => join(directory, name));

/** Kills the meshd of a node and starts another program in its place. */
async function swapVersion(node: string, program: string | undefined): Promise<void> {
  await stdoutOf(run('node-stop', [node, 'KILL']));
  await stdoutOf(
    program === undefined ? run('node-start', [node]) : run('env', [`MESHD_CMD=${program}`, 'node-start', node]),
  );
  await waitFor(
    `${node} is connected again`,
    60_000,
    async () => Number((await nodeInfo(node)).assignmentRevision) > 0,
  );
}

/** Listings of a node's kernel by the system's tools; hash tables sorted, counters removed. */
async function nodeState(node: string): Promise<string> {
  const script = `
    ip -d -o link show mesh0; ip -n mesh-lb -o addr; ip -n mesh-net-ingress route show table all; ip -n mesh-net-ingress rule
    bridge -n mesh-net-ingress fdb show dev vxlan0 | sort; ip -n mesh-net-ingress neigh show nud permanent | sort
    ipset save | sort; ip netns exec mesh-lb ipset save | sort; ip netns exec mesh-lb ipvsadm -Sn; ip netns exec mesh-lb ipvsadm -L --timeout
    for n in '' 'ip netns exec mesh-lb' 'ip netns exec mesh-net-ingress'; do $n iptables-save; done; ls /run/netns`;
  const text = await stdoutOf(runOn(node, 'sh', '-c', script));
  return text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.replace(/\[\d+:\d+\]/g, ''))
    .join('\n');
}

test('upgrade and rollback of every meshd under load: no connection breaks, no kernel operation', async () => {
  await applyWeb({ replicas: 3 });
  const program = buildOtherVersion();
  const before = new Map<string, string>();
  for (const node of nodeNames()) before.set(node, await nodeState(node));
  const client = await clientProbe();
  for (const node of nodeNames()) await client.hold(`up-${node}`, addressOf(node), 8080);
  const urls = nodeNames().map((node) => `http://${addressOf(node)}:8080/`);
  await client.startLoad('upgrade', urls, LIGHT_LOAD);
  for (const [version, command] of [
    [OTHER, program],
    [undefined, undefined],
  ] as const) {
    for (const node of nodeNames()) await swapVersion(node, command);
    for (const node of nodeNames()) {
      const { version: now, counters } = await nodeInfo(node);
      if (version === undefined) assert.notEqual(now, OTHER);
      else assert.equal(now, version);
      assert.equal(Number(counters!.operations), 0, `${node} executed kernel operations without a change`);
    }
  }
  const { errors, answered } = await client.stopLoad('upgrade');
  assert.deepEqual(errors, {});
  assert.ok(answered > 0);
  for (const node of nodeNames()) {
    assert.match(await client.request(`up-${node}`), /sees 172\.30\.0\.100/);
    await client.release(`up-${node}`);
    assert.equal(await nodeState(node), before.get(node));
  }
});

test('all managers stopped for long, agents restarted: the kernels stay byte for byte, ports work', async () => {
  const agents = nodeNames().filter((node) => node !== 'node1');
  const before = new Map<string, string>();
  for (const node of agents) before.set(node, await nodeState(node));
  const client = await clientProbe();
  await stdoutOf(run('node-stop', ['node1', 'KILL']));
  const stopped = performance.now();
  try {
    for (const node of agents) {
      await stdoutOf(run('node-stop', [node, 'KILL']));
      await stdoutOf(run('node-start', [node]));
    }
    let calls = 0;
    for (; performance.now() - stopped < DOWNTIME_SECONDS * 1000; await sleep(1_000)) {
      for (const node of nodeNames()) parseWhoami(await client.http(`http://${addressOf(node)}:8080/`));
      calls += nodeNames().length;
    }
    console.log(`# no manager for ${DOWNTIME_SECONDS} s: ${calls} requests, all successful`);
    for (const node of agents) {
      assert.equal(await nodeState(node), before.get(node));
      assert.equal(Number((await nodeInfo(node)).counters!.operations), 0);
      assert.match((await nodeInfo(node)).conditions.join(), /^ManagerUnreachable: /);
    }
  } finally {
    await stdoutOf(run('node-start', ['node1']));
  }
  await waitFor('the conditions to clear', 60_000, async () => {
    for (const node of agents) if ((await nodeInfo(node)).conditions.length > 0) return false;
    return true;
  });
  for (const node of agents) assert.equal(await nodeState(node), before.get(node));
});

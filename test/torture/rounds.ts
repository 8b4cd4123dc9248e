// Seeded damage to the kernels of three nodes while traffic flows, and the checks after each round.
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import { addressOf, nodeNames, parseWhoami, run, runOn, sleep, stdoutOf, waitFor } from '../scenarios/harness.ts';
import { clientProbe } from '../scenarios/shared.ts';
import { damageCommands, damageTargets } from './damage.ts';
import { addForeignToHost, addForeignToMesh, foreignInMesh, foreignOnHost } from './foreign.ts';
import { allKernelObjects, nodeConditions, pendingSteps, recentChanges, runningTaskCount } from './queries.ts';
import { type Random, seeded } from './random.ts';

/** Timeout of a round in ms. Generous: the machine is emulated, and busy. */
const ROUND_TIMEOUT = 120_000;
const REPLICAS = 3;
/** Damage that also deletes foreign objects in meshd's namespaces. */
const AFFECTS_FOREIGN = /netns del|umount|ipvsadm -C|link (del|set)|addr (flush|del)|route flush|-F;/;

interface DamageStep {
  node: string;
  what: string;
  command: string;
}

export interface Report {
  rounds: number;
  /** ms from the damage until no drift is left, slowest last. */
  times: { ms: number; what: string }[];
  answered: number;
  failed: number;
}

/** Throws at the first failing round, after printing its commands. */
export async function runTorture(seed: number, rounds: number): Promise<Report> {
  console.log(`# torture: seed ${seed}, ${rounds} rounds`);
  const random = seeded(seed);
  const hostListings = new Map<string, string>();
  const meshListings = new Map<string, string>();
  for (const node of nodeNames()) {
    await addForeignToHost(node);
    await addForeignToMesh(node);
    hostListings.set(node, await foreignOnHost(node));
    for (const marker of ['10.99.0.1:80', 'vxlan9', 'vxlan77', 'FOREIGN', 'foreign-set', '10.98.0.0/16']) {
      if (!hostListings.get(node)!.includes(marker)) throw new Error(`foreign object ${marker} is missing on ${node}`);
    }
    meshListings.set(node, await foreignInMesh(node));
  }
  const client = await clientProbe();
  const urls = nodeNames().map((node) => `http://${addressOf(node)}:8080/`);
  await client.startLoad('torture', urls, { parallel: 1, pause: 200, timeout: 5_000 });
  const times: Report['times'] = [];
  let round = 0;
  let steps: DamageStep[] = [];
  try {
    for (round = 1; round <= rounds; round += 1) {
      steps = await chooseDamage(random);
      const began = performance.now();
      await Promise.all(
        nodeNames().map((node) =>
          applyDamage(
            node,
            steps.filter((step) => step.node === node),
          ),
        ),
      );
      if (random.chance(0.06)) steps.push(await crashAgent(random.pick(nodeNames())));
      await waitForNoDrift([...new Set([...steps.map(({ node }) => node), ...nodeNames()])]);
      const ms = Math.round(performance.now() - began);
      const what = steps.map(({ node, command }) => `${node}: ${command}`).join(' | ');
      times.push({ ms, what });
      if (process.env['TEST_VERBOSE']) console.log(`# ${round}: ${ms} ms ${what}`);
      await assertAnswers(urls);
      for (const node of new Set(steps.map((deed) => deed.node))) {
        assertUnchanged(`foreign objects on ${node}`, await foreignOnHost(node), hostListings.get(node)!);
        const foreignDamaged = steps.some((deed) => deed.node === node && AFFECTS_FOREIGN.test(deed.command));
        if (foreignDamaged) {
          await addForeignToMesh(node);
          meshListings.set(node, await foreignInMesh(node));
        } else
          assertUnchanged(
            `foreign objects in namespaces of meshd on ${node}`,
            await foreignInMesh(node),
            meshListings.get(node)!,
          );
      }
    }
  } catch (error) {
    console.log(`# torture: round ${round} of seed ${seed} failed after these commands:`);
    for (const { node, what, command } of steps) console.log(`#   ${node}: ${what}: ${command}`);
    console.log(`# ${await describeState().catch(String)}`);
    throw error;
  } finally {
    const { answered, failed } = await client.stopLoad('torture');
    console.log(`# torture: ${answered} requests succeeded, ${failed} failed while paths were interrupted`);
    Object.assign(times, { answered, failed });
  }
  const { answered, failed } = times as unknown as { answered: number; failed: number };
  return { rounds, times: [...times].sort((a, b) => a.ms - b.ms), answered, failed };
}

/** One to three objects of any nodes, each with one of its damaging commands. */
async function chooseDamage(random: Random): Promise<DamageStep[]> {
  const all = await allKernelObjects();
  const count = random.chance(0.3) ? 2 + random.below(2) : 1;
  const steps: DamageStep[] = [];
  while (steps.length < count) {
    const node = random.pick(nodeNames());
    const object = pickByKind(damageTargets(all.get(node)!, random), random);
    const commands = damageCommands(object, random);
    if (commands.length > 0) steps.push({ node, what: object.kind, command: random.pick(commands) });
  }
  return steps;
}

/** Every kind equally often, independent of the number of its objects. */
function pickByKind(objects: readonly KernelObject[], random: Random): KernelObject {
  const kind = random.pick([...new Set(objects.map((object) => object.kind))].sort());
  const some = objects.filter((object) => object.kind === kind);
  return random.pick(some);
}

/** Commands that fail because of the preceding damage are not an error. */
async function applyDamage(node: string, steps: readonly DamageStep[]): Promise<void> {
  if (steps.length === 0) return;
  await runOn(node, 'sh', '-c', `${steps.map(({ command }) => command).join('\n')}\nip netns del stray 2>/dev/null`);
}

async function crashAgent(node: string): Promise<DamageStep> {
  await stdoutOf(run('node-stop', [node, 'KILL']));
  await stdoutOf(run('node-start', [node]));
  return { node, what: 'meshd', command: 'kill -9 and start' };
}

/** Each check makes the agent observe its whole kernel, so it is not repeated more often than needed. */
async function waitForNoDrift(nodes: readonly string[]): Promise<void> {
  await waitFor('no drift on any node', ROUND_TIMEOUT, async () => {
    for (const node of nodes) {
      const steps = await pendingSteps(node);
      if (steps.length === 0) continue;
      await sleep(200);
      throw new Error(`${node}: ${steps.slice(0, 5).join('; ')}`);
    }
    return (await runningTaskCount('web')) === REPLICAS;
  });
}

async function assertAnswers(urls: readonly string[]): Promise<void> {
  const client = await clientProbe();
  for (const url of urls) {
    await waitFor(`a response of ${url}`, ROUND_TIMEOUT, async () =>
      parseWhoami(await client.http(url, { timeout: 2_000 })),
    );
  }
}

function assertUnchanged(what: string, now: string, before: string): void {
  if (now === before) return;
  const lines = (text: string, other: string) => text.split('\n').filter((line) => !other.split('\n').includes(line));
  throw new Error(
    `${what} is not as before:\n- ${lines(before, now).join('\n- ')}\n+ ${lines(now, before).join('\n+ ')}`,
  );
}

async function describeState(): Promise<string> {
  const lines: string[] = [];
  for (const node of nodeNames()) {
    lines.push(
      `${node}: ${(await pendingSteps(node)).join('; ') || 'nothing to do'} ${(await nodeConditions(node)).join('; ')}`,
    );
  }
  for (const [node, changes] of await recentChanges(90_000)) {
    for (const { why, wrong, by, took, failures } of changes) {
      lines.push(
        `${node} ${why} ${took} ms ${by.join(', ')}: ${wrong.join('; ')} ${failures.join('; ')}`.slice(0, 1_000),
      );
    }
  }
  return lines.join('\n# ');
}

// The torture: seeded damage to the kernels of three nodes while traffic flows, and what has to be true after each.
import type { KernelObject } from '../../src/model/kernel-state.ts';
import { addressOf, must, nodeNames, on, parseAnswer, run, sleep, until } from '../scenarios/mesh.ts';
import { clientProbe } from '../scenarios/shared.ts';
import { damagesOf, targets } from './damage.ts';
import { insidePicture, outsidePicture, plantInside, plantOutside } from './foreign.ts';
import { changesOfAll, conditionsOf, objectsOfAll, runningCount, stepsOf } from './looks.ts';
import { type Random, seeded } from './random.ts';

/** How long a round may take to end well, ms. Generous: the machine is emulated, and busy. */
const PATIENCE = 120_000;
const REPLICAS = 3;
/** Damage that takes what others have in our namespaces along. */
const TAKES_ALONG = /netns del|umount|ipvsadm -C|link (del|set)|addr (flush|del)|route flush|-F;/;

interface Deed {
  node: string;
  what: string;
  command: string;
}

export interface Report {
  rounds: number;
  /** ms from the damage to want == have, slowest last. */
  times: { ms: number; what: string }[];
  answered: number;
  failed: number;
}

/** Throws at the first round that does not end well, with what it did. */
export async function torture(seed: number, rounds: number): Promise<Report> {
  console.log(`# torture: seed ${seed}, ${rounds} rounds`);
  const random = seeded(seed);
  const outside = new Map<string, string>();
  const inside = new Map<string, string>();
  for (const node of nodeNames()) {
    await plantOutside(node);
    await plantInside(node);
    outside.set(node, await outsidePicture(node));
    for (const sign of ['10.99.0.1:80', 'vxlan9', 'vxlan77', 'FOREIGN', 'foreign-set', '10.98.0.0/16']) {
      if (!outside.get(node)!.includes(sign)) throw new Error(`${sign} of others is not on ${node}`);
    }
    inside.set(node, await insidePicture(node));
  }
  const client = await clientProbe();
  const urls = nodeNames().map((node) => `http://${addressOf(node)}:8080/`);
  await client.startLoad('torture', urls, { parallel: 1, pause: 200, timeout: 5_000 });
  const times: Report['times'] = [];
  let round = 0;
  let deeds: Deed[] = [];
  try {
    for (round = 1; round <= rounds; round += 1) {
      deeds = await choose(random);
      const began = performance.now();
      await Promise.all(
        nodeNames().map((node) =>
          harm(
            node,
            deeds.filter((deed) => deed.node === node),
          ),
        ),
      );
      if (random.chance(0.06)) deeds.push(await crash(random.pick(nodeNames())));
      await settled([...new Set([...deeds.map(({ node }) => node), ...nodeNames()])]);
      const ms = Math.round(performance.now() - began);
      const what = deeds.map(({ node, command }) => `${node}: ${command}`).join(' | ');
      times.push({ ms, what });
      if (process.env['TEST_VERBOSE']) console.log(`# ${round}: ${ms} ms ${what}`);
      await answers(urls);
      for (const node of new Set(deeds.map((deed) => deed.node))) {
        equal(`what is others' on ${node}`, await outsidePicture(node), outside.get(node)!);
        const gone = deeds.some((deed) => deed.node === node && TAKES_ALONG.test(deed.command));
        if (gone) {
          await plantInside(node);
          inside.set(node, await insidePicture(node));
        } else equal(`what is others' in namespaces of ours on ${node}`, await insidePicture(node), inside.get(node)!);
      }
    }
  } catch (error) {
    console.log(`# torture: round ${round} of seed ${seed} failed; it did:`);
    for (const { node, what, command } of deeds) console.log(`#   ${node}: ${what}: ${command}`);
    console.log(`# ${await state().catch(String)}`);
    throw error;
  } finally {
    const { answered, failed } = await client.stopLoad('torture');
    console.log(`# torture: ${answered} calls answered, ${failed} failed while paths were cut`);
    Object.assign(times, { answered, failed });
  }
  const { answered, failed } = times as unknown as { answered: number; failed: number };
  return { rounds, times: [...times].sort((a, b) => a.ms - b.ms), answered, failed };
}

/** One to three objects of any nodes, each with one of the things that can be done to it. */
async function choose(random: Random): Promise<Deed[]> {
  const all = await objectsOfAll();
  const count = random.chance(0.3) ? 2 + random.below(2) : 1;
  const deeds: Deed[] = [];
  while (deeds.length < count) {
    const node = random.pick(nodeNames());
    const object = byKind(targets(all.get(node)!, random), random);
    const commands = damagesOf(object, random);
    if (commands.length > 0) deeds.push({ node, what: object.kind, command: random.pick(commands) });
  }
  return deeds;
}

/** Every kind equally often, however many of it there are. */
function byKind(objects: readonly KernelObject[], random: Random): KernelObject {
  const kind = random.pick([...new Set(objects.map((object) => object.kind))].sort());
  const some = objects.filter((object) => object.kind === kind);
  return random.pick(some);
}

/** What no longer can be done, because of what was done just before, is not an error. */
async function harm(node: string, deeds: readonly Deed[]): Promise<void> {
  if (deeds.length === 0) return;
  await on(node, 'sh', '-c', `${deeds.map(({ command }) => command).join('\n')}\nip netns del stray 2>/dev/null`);
}

async function crash(node: string): Promise<Deed> {
  await must(run('node-stop', [node, 'KILL']));
  await must(run('node-start', [node]));
  return { node, what: 'meshd', command: 'kill -9 and start' };
}

/** Each look makes the agent read its whole kernel, so not more often than needed. */
async function settled(nodes: readonly string[]): Promise<void> {
  await until('want and have agree on every node', PATIENCE, async () => {
    for (const node of nodes) {
      const steps = await stepsOf(node);
      if (steps.length === 0) continue;
      await sleep(200);
      throw new Error(`${node}: ${steps.slice(0, 5).join('; ')}`);
    }
    return (await runningCount('web')) === REPLICAS;
  });
}

async function answers(urls: readonly string[]): Promise<void> {
  const client = await clientProbe();
  for (const url of urls) {
    await until(`${url} answers`, PATIENCE, async () => parseAnswer(await client.http(url, { timeout: 2_000 })));
  }
}

function equal(what: string, now: string, before: string): void {
  if (now === before) return;
  const lines = (text: string, other: string) => text.split('\n').filter((line) => !other.split('\n').includes(line));
  throw new Error(
    `${what} is not as before:\n- ${lines(before, now).join('\n- ')}\n+ ${lines(now, before).join('\n+ ')}`,
  );
}

async function state(): Promise<string> {
  const lines: string[] = [];
  for (const node of nodeNames()) {
    lines.push(
      `${node}: ${(await stepsOf(node)).join('; ') || 'nothing to do'} ${(await conditionsOf(node)).join('; ')}`,
    );
  }
  for (const [node, changes] of await changesOfAll(90_000)) {
    for (const { why, wrong, by, took, failures } of changes) {
      lines.push(
        `${node} ${why} ${took} ms ${by.join(', ')}: ${wrong.join('; ')} ${failures.join('; ')}`.slice(0, 1_000),
      );
    }
  }
  return lines.join('\n# ');
}

import { closeSync } from 'node:fs';
import { openNetns } from '../../native/index.ts';
import type { Op } from '../model/kernel-state.ts';
import { decodeLink, getLink } from '../netlink/link.ts';
import type { NetlinkRequest } from '../netlink/message.ts';
import { type Failure, failureFrom, noSuchLink } from './failure.ts';
import type { Firewall } from './firewall.ts';
import type { IpvsFamily } from './ipvs.ts';
import { isMove, withConnectionsKept } from './move.ts';
import type { Namespaces } from './namespaces.ts';
import type { Shortcuts } from './shortcuts.ts';
import { type NetlinkStep, type Step, type Surroundings, stepsOf } from './steps.ts';
import { writeSysctls } from './sysctl.ts';
import { MAX_MESSAGES, type Meter, NETLINK_GENERIC, NETLINK_ROUTE, type Transport } from './transport.ts';
import { each } from './wire.ts';

export interface Hands {
  transport: Transport;
  namespaces: Namespaces;
  firewall: Firewall;
  ipvs: IpvsFamily;
  shortcuts: Shortcuts;
}

export interface ApplyMeter extends Meter {
  firewallRuns: number;
}

interface Task {
  step: Step;
  /** Which Op it is for. */
  owner: number;
}

/**
 * Takes all steps of all Ops in order, neighbours of one netns and one means together. Gives what went wrong, by the
 * place of the Op in the list; goes on after every failure.
 */
export async function takeSteps(hands: Hands, ops: readonly Op[], meter: ApplyMeter): Promise<Map<number, Failure>> {
  const failures = new Map<number, Failure>();
  const fail = (task: Task, failure: Failure) => {
    if (!failures.has(task.owner)) failures.set(task.owner, failure);
  };
  const links: LinkNumbers = new Map();
  for (const group of groupsOf(ops)) {
    const [first] = group;
    if (first.step.lane === 'netlink') {
      const send = () => sendGroup(hands, ops, group, links, meter, fail);
      const moves = group.some(({ owner }) => isMove(ops, owner));
      await (moves ? withConnectionsKept(hands.namespaces.path(first.step.netns), send) : send());
    } else if (first.step.lane === 'firewall') await filterGroup(hands, group, meter, fail);
    else if (first.step.lane === 'sysctl') await writeGroup(hands, group, fail);
    else if (first.step.lane === 'shortcut') await shortcutGroup(hands, group, meter, fail);
    else for (const task of group) pin(hands, task, fail);
  }
  return failures;
}

type Fail = (task: Task, failure: Failure) => void;
type Group = [Task, ...Task[]];

/** Deleting a link takes the kernel some 10 ms (synchronize_net), and nothing else runs here while it does. */
const MAX_MOVES = 16;

/**
 * Neighbours that go to the kernel together. A link has to exist before its number can be asked for. Groups are made as
 * they are asked for, so that of tens of thousands of steps only those of one send are in memory.
 */
function* groupsOf(ops: readonly Op[]): Generator<Group> {
  let group: Group | undefined;
  let moved = new Set<string>();
  for (const [owner, op] of ops.entries()) {
    for (const step of stepsOf(op)) {
      if (group && isTogether(group, step) && hasRoom(group, ops, owner, moved, step)) group.push({ step, owner });
      else {
        if (group) yield group;
        group = [{ step, owner }];
        moved = new Set();
      }
      if (step.lane === 'netlink') for (const name of step.moves) moved.add(name);
    }
  }
  if (group) yield group;
}

function isTogether([{ step: first }]: Group, step: Step): boolean {
  if (first.lane !== step.lane || first.netns !== step.netns) return false;
  return first.lane !== 'netlink' || step.lane !== 'netlink' || first.protocol === step.protocol;
}

function hasRoom(group: Group, ops: readonly Op[], owner: number, moved: Set<string>, step: Step): boolean {
  if (step.lane !== 'netlink') return true;
  // What a move takes out is put back under the same protection.
  if (group.length >= MAX_MESSAGES && !isMove(ops, owner - 1)) return false;
  return moved.size < MAX_MOVES && !step.uses.some((name) => moved.has(`${step.netns} ${name}`));
}

/** ifindex by `netns name`, as far as known in this apply. */
type LinkNumbers = Map<string, number>;

async function sendGroup(
  hands: Hands,
  ops: readonly Op[],
  group: Group,
  links: LinkNumbers,
  meter: Meter,
  fail: Fail,
): Promise<void> {
  const steps = group.map(({ step }) => step as NetlinkStep);
  const { netns, protocol } = steps[0]!;
  let genl = 0;
  try {
    if (protocol === NETLINK_GENERIC) genl = await hands.ipvs.need();
  } catch (thrown) {
    for (const task of group) fail(task, failureFrom(thrown));
    return;
  }
  await numberLinks(hands, netns, steps, links, meter);
  const open = new Map<string, number>();
  const around: Surroundings = {
    genl,
    index(name) {
      const index = links.get(`${netns} ${name}`);
      if (index === undefined) throw noSuchLink(netns, name);
      return index;
    },
    fd(other) {
      const fd = open.get(other) ?? openNetns(hands.namespaces.path(other));
      open.set(other, fd);
      return fd;
    },
  };
  try {
    const sent: Task[] = [];
    const requests: NetlinkRequest[] = [];
    group.forEach((task, place) => {
      try {
        requests.push(steps[place]!.write(around, ops[task.owner]!));
        sent.push(task);
      } catch (thrown) {
        fail(task, failureFrom(thrown));
      }
    });
    const outcomes = await hands.transport.transact(netns, protocol, requests, meter);
    sent.forEach((task, place) => {
      const outcome = outcomes[place];
      if (outcome && !outcome.ok) fail(task, outcome);
    });
  } finally {
    for (const fd of open.values()) closeSync(fd);
  }
  for (const name of steps.flatMap(({ moves }) => moves)) links.delete(name);
}

/** Asks for the numbers of the links a group uses, all in one send. */
async function numberLinks(
  hands: Hands,
  netns: string,
  steps: readonly NetlinkStep[],
  links: LinkNumbers,
  meter: Meter,
): Promise<void> {
  const names = [...new Set(steps.flatMap(({ uses }) => uses))].filter((name) => !links.has(`${netns} ${name}`));
  const outcomes = await hands.transport.transact(
    netns,
    NETLINK_ROUTE,
    names.map((name) => getLink({ name })),
    meter,
  );
  outcomes.forEach((outcome, place) => {
    const [link] = outcome.ok ? each(outcome.replies, decodeLink) : [];
    if (link) links.set(`${netns} ${names[place]}`, link.index);
  });
}

async function filterGroup(hands: Hands, group: Group, meter: ApplyMeter, fail: Fail): Promise<void> {
  const ops = group.flatMap(({ step }) => (step.lane === 'firewall' ? [step.op] : []));
  const errors = await hands.firewall.apply(group[0].step.netns, ops, meter);
  group.forEach((task, place) => {
    const error = errors[place];
    if (error) fail(task, error);
  });
}

async function shortcutGroup(hands: Hands, group: Group, meter: Meter, fail: Fail): Promise<void> {
  const ops = group.flatMap(({ step }) => (step.lane === 'shortcut' ? [step.op] : []));
  const errors = await hands.shortcuts.apply(ops, meter);
  group.forEach((task, place) => {
    const error = errors[place];
    if (error) fail(task, error);
  });
}

async function writeGroup(hands: Hands, group: Group, fail: Fail): Promise<void> {
  const entries = group.flatMap(({ step }) => (step.lane === 'sysctl' ? [step] : []));
  // These come with the module, which asking for the family loads.
  if (entries.some(({ name }) => name.startsWith('net.ipv4.vs.'))) await hands.ipvs.find();
  try {
    const errors = writeSysctls(hands.namespaces.path(group[0].step.netns), entries);
    group.forEach((task, place) => {
      const error = errors[place];
      if (error) fail(task, failureFrom(error));
    });
  } catch (thrown) {
    for (const task of group) fail(task, failureFrom(thrown));
  }
}

function pin(hands: Hands, task: Task, fail: Fail): void {
  const { step } = task;
  if (step.lane !== 'namespace') return;
  try {
    if (step.act === 'create') hands.namespaces.create(step.netns);
    else {
      // Our own sockets would keep it alive, and its links with it.
      hands.transport.forget(step.netns);
      hands.namespaces.remove(step.netns);
    }
  } catch (thrown) {
    fail(task, failureFrom(thrown));
  }
}

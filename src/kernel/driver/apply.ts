import { closeSync } from 'node:fs';
import { openNetns } from '../../../native/index.ts';
import type { Op } from '../../model/kernel-state.ts';
import { decodeLink, getLink } from '../../netlink/link.ts';
import type { NetlinkRequest } from '../../netlink/message.ts';
import type { FastPathDriver } from '../fast-path/fast-path-driver.ts';
import type { Firewall } from '../firewall/firewall.ts';
import type { IpvsFamily } from '../ipvs/ipvs.ts';
import { writeSysctls } from '../observe/sysctl.ts';
import type { Meter } from './channel.ts';
import { decodeAll } from './decode-all.ts';
import { type Failure, linkNotFound, toFailure } from './failure.ts';
import type { Namespaces } from './namespaces.ts';
import { isServerMove, preserveConnections } from './server-move.ts';
import { groupSteps, type PendingStep, type StepGroup } from './step-groups.ts';
import type { NetlinkStep, RequestContext } from './steps.ts';
import { NETLINK_GENERIC, NETLINK_ROUTE, type Transport } from './transport.ts';

export interface ApplyContext {
  transport: Transport;
  namespaces: Namespaces;
  firewall: Firewall;
  ipvs: IpvsFamily;
  fastPath: FastPathDriver;
}

export interface ApplyMeter extends Meter {
  firewallRuns: number;
}

/**
 * Executes all steps of all operations in order, neighbours of one netns and backend together. Returns the failures by
 * the place of the operation in the list; continues after every failure.
 */
export async function executeSteps(
  context: ApplyContext,
  ops: readonly Op[],
  meter: ApplyMeter,
): Promise<Map<number, Failure>> {
  const failures = new Map<number, Failure>();
  const fail = (task: PendingStep, failure: Failure) => {
    if (!failures.has(task.opIndex)) failures.set(task.opIndex, failure);
  };
  const links: LinkIndexes = new Map();
  for (const group of groupSteps(ops)) {
    const [first] = group;
    if (first.step.backend === 'netlink') {
      const send = () => sendGroup(context, ops, group, links, meter, fail);
      const moves = group.some(({ opIndex: owner }) => isServerMove(ops, owner));
      await (moves ? preserveConnections(context.namespaces.path(first.step.netns), send) : send());
    } else if (first.step.backend === 'firewall') await applyFirewallGroup(context, group, meter, fail);
    else if (first.step.backend === 'sysctl') await applySysctlGroup(context, group, fail);
    else if (first.step.backend === 'fast-path') await applyFastPathGroup(context, group, meter, fail);
    else for (const task of group) applyNamespaceStep(context, task, fail);
  }
  return failures;
}

type ReportFailure = (task: PendingStep, failure: Failure) => void;

/** ifindex by `netns name`, as far as known in this apply. */
type LinkIndexes = Map<string, number>;

async function sendGroup(
  context: ApplyContext,
  ops: readonly Op[],
  group: StepGroup,
  links: LinkIndexes,
  meter: Meter,
  fail: ReportFailure,
): Promise<void> {
  const steps = group.map(({ step }) => step as NetlinkStep);
  const { netns, protocol } = steps[0]!;
  let genl = 0;
  try {
    if (protocol === NETLINK_GENERIC) genl = await context.ipvs.require();
  } catch (thrown) {
    for (const task of group) fail(task, toFailure(thrown));
    return;
  }
  await resolveLinkIndexes(context, netns, steps, links, meter);
  const open = new Map<string, number>();
  const requestContext: RequestContext = {
    ipvsFamilyId: genl,
    index(name) {
      const index = links.get(`${netns} ${name}`);
      if (index === undefined) throw linkNotFound(netns, name);
      return index;
    },
    fd(other) {
      const fd = open.get(other) ?? openNetns(context.namespaces.path(other));
      open.set(other, fd);
      return fd;
    },
  };
  try {
    const sent: PendingStep[] = [];
    const requests: NetlinkRequest[] = [];
    group.forEach((task, place) => {
      try {
        requests.push(steps[place]!.buildRequest(requestContext, ops[task.opIndex]!));
        sent.push(task);
      } catch (thrown) {
        fail(task, toFailure(thrown));
      }
    });
    const outcomes = await context.transport.transact(netns, protocol, requests, meter);
    sent.forEach((task, place) => {
      const outcome = outcomes[place];
      if (outcome && !outcome.ok) fail(task, outcome);
    });
  } finally {
    for (const fd of open.values()) closeSync(fd);
  }
  for (const name of steps.flatMap(({ changedLinks: moves }) => moves)) links.delete(name);
}

/** Looks up the ifindexes of the links that a group uses, all in one send. */
async function resolveLinkIndexes(
  context: ApplyContext,
  netns: string,
  steps: readonly NetlinkStep[],
  links: LinkIndexes,
  meter: Meter,
): Promise<void> {
  const names = [...new Set(steps.flatMap(({ usedLinks: uses }) => uses))].filter(
    (name) => !links.has(`${netns} ${name}`),
  );
  const outcomes = await context.transport.transact(
    netns,
    NETLINK_ROUTE,
    names.map((name) => getLink({ name })),
    meter,
  );
  outcomes.forEach((outcome, place) => {
    const [link] = outcome.ok ? decodeAll(outcome.replies, decodeLink) : [];
    if (link) links.set(`${netns} ${names[place]}`, link.index);
  });
}

async function applyFirewallGroup(
  context: ApplyContext,
  group: StepGroup,
  meter: ApplyMeter,
  fail: ReportFailure,
): Promise<void> {
  const ops = group.flatMap(({ step }) => (step.backend === 'firewall' ? [step.op] : []));
  const errors = await context.firewall.apply(group[0].step.netns, ops, meter);
  group.forEach((task, place) => {
    const error = errors[place];
    if (error) fail(task, error);
  });
}

async function applyFastPathGroup(
  context: ApplyContext,
  group: StepGroup,
  meter: Meter,
  fail: ReportFailure,
): Promise<void> {
  const ops = group.flatMap(({ step }) => (step.backend === 'fast-path' ? [step.op] : []));
  const errors = await context.fastPath.apply(ops, meter);
  group.forEach((task, place) => {
    const error = errors[place];
    if (error) fail(task, error);
  });
}

async function applySysctlGroup(context: ApplyContext, group: StepGroup, fail: ReportFailure): Promise<void> {
  const entries = group.flatMap(({ step }) => (step.backend === 'sysctl' ? [step] : []));
  // These exist once the module is loaded, and looking up the family loads it.
  if (entries.some(({ name }) => name.startsWith('net.ipv4.vs.'))) await context.ipvs.find();
  try {
    const errors = writeSysctls(context.namespaces.path(group[0].step.netns), entries);
    group.forEach((task, place) => {
      const error = errors[place];
      if (error) fail(task, toFailure(error));
    });
  } catch (thrown) {
    for (const task of group) fail(task, toFailure(thrown));
  }
}

function applyNamespaceStep(context: ApplyContext, task: PendingStep, fail: ReportFailure): void {
  const { step } = task;
  if (step.backend !== 'namespace') return;
  try {
    if (step.act === 'create') context.namespaces.create(step.netns);
    else {
      // Our own sockets would keep the namespace alive, and its links with it.
      context.transport.closeNetns(step.netns);
      context.namespaces.remove(step.netns);
    }
  } catch (thrown) {
    fail(task, toFailure(thrown));
  }
}

import type { Op } from '../../model/kernel-state.ts';
import { stepsOf } from '../kinds/registry.ts';
import { isServerMove } from './server-move.ts';
import type { Step } from './steps.ts';
import { MAX_MESSAGES } from './transport.ts';

export interface PendingStep {
  step: Step;
  /** Place of the operation it belongs to. */
  opIndex: number;
}

export type StepGroup = [PendingStep, ...PendingStep[]];

/** Deleting a link takes the kernel some 10 ms (synchronize_net) and blocks this process. */
const MAX_CHANGED_LINKS = 16;

/**
 * Neighbouring steps that are sent together. A link has to exist before its ifindex can be looked up. Groups are built
 * lazily, so that of tens of thousands of steps only those of one send are in memory.
 */
export function* groupSteps(ops: readonly Op[]): Generator<StepGroup> {
  let group: StepGroup | undefined;
  let changedLinks = new Set<string>();
  for (const [opIndex, op] of ops.entries()) {
    for (const step of stepsOf(op)) {
      if (group && canShareGroup(group, step) && fitsInGroup(group, ops, opIndex, changedLinks, step))
        group.push({ step, opIndex });
      else {
        if (group) yield group;
        group = [{ step, opIndex }];
        changedLinks = new Set();
      }
      if (step.backend === 'netlink') for (const name of step.changedLinks) changedLinks.add(name);
    }
  }
  if (group) yield group;
}

function canShareGroup([{ step: first }]: StepGroup, step: Step): boolean {
  if (first.backend !== step.backend || first.netns !== step.netns) return false;
  return first.backend !== 'netlink' || step.backend !== 'netlink' || first.protocol === step.protocol;
}

function fitsInGroup(
  group: StepGroup,
  ops: readonly Op[],
  opIndex: number,
  changedLinks: Set<string>,
  step: Step,
): boolean {
  if (step.backend !== 'netlink') return true;
  // The two halves of a move stay together.
  if (group.length >= MAX_MESSAGES && !isServerMove(ops, opIndex - 1)) return false;
  return (
    changedLinks.size < MAX_CHANGED_LINKS && !step.usedLinks.some((name) => changedLinks.has(`${step.netns} ${name}`))
  );
}

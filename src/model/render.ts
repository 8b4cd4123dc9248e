import { descriptorOf, type KernelState, type Op } from './kernel-state.ts';
import type { AnyObject, KindRegistry } from './kinds/kind.ts';
import { type KernelObject, KINDS } from './kinds/registry.ts';

/**
 * The one renderer: kernel objects in the words a person would type into a root shell. Every line is a valid command of
 * iproute2, ipset, ipvsadm, iptables or sysctl, run in the host's netns; those of the fast path are only alike, because
 * its programs are in no file.
 */

/** The commands that make an object where there is none. */
export function renderObject(object: KernelObject): string[] {
  return renderStep({ verb: 'create', object }, KINDS);
}

/** The commands of one step. */
export function renderOp(op: Op): string[] {
  return renderStep(op, KINDS);
}

/** The commands of one step of an object out of a registry. */
export function renderStep(op: Op<AnyObject>, kinds: KindRegistry): string[] {
  const before = op.verb === 'change' ? op.before : undefined;
  return descriptorOf(op.object, kinds).commands(op.object, op.verb, before);
}

/** A whole state, one command a line, ordered by what the objects are; the same state gives the same text. */
export function renderState(state: KernelState): string {
  const keys = [...state.keys()].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  return keys.flatMap((key) => renderObject(state.get(key)!).map((line) => `${line}\n`)).join('');
}

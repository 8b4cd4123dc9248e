import { MeshError } from '../base/errors.ts';
import type { Program } from '../bpf/assembler.ts';
import { hostIn } from '../bpf/host-in.ts';
import { hostOut } from '../bpf/host-out.ts';
import { routerIn } from '../bpf/router-in.ts';
import { tags } from '../bpf/tag.ts';
import { taskOut } from '../bpf/task-out.ts';
import type { ShortcutProgram } from '../model/kernel-state.ts';
import { SHORTCUT_PREFERENCE, SHORTCUT_PREFIX } from '../model/names.ts';
import type { Filter } from '../netlink/traffic-control.ts';

/** Of every filter of ours; somebody who adds one beside it gets another. */
export const HANDLE = 1;

/** What `tc filter show` calls it. */
export function filterName({ type }: ShortcutProgram): string {
  return `${SHORTCUT_PREFIX}${type}`;
}

/** Links that a program has by number. */
export function linksIn(program: ShortcutProgram): string[] {
  if (program.type === 'host-in') return [program.lb, program.router];
  return program.type === 'task-out' ? [program.vxlan, program.lb] : [];
}

/** The instructions; `index` gives a link's number, or throws. */
export function programOf(program: ShortcutProgram, index: (link: string) => number): Program {
  switch (program.type) {
    case 'host-in':
      return hostIn({ ...program, lb: index(program.lb), router: index(program.router) });
    case 'host-out':
      return hostOut({ address: program.address });
    case 'router-in':
      return routerIn();
    case 'task-out':
      return taskOut({ vxlan: index(program.vxlan), lb: index(program.lb), number: program.number });
    case 'foreign':
      throw new MeshError('internal', 'a foreign program is never wanted');
  }
}

/** Whether a filter is ours; the rest, also at our preference, is somebody else's. */
export function isOurs({ kind, preference, handle, bpf }: Filter): boolean {
  // With handle 0 the kernel lists the classifier, which has no program.
  return (
    kind === 'bpf' &&
    preference === SHORTCUT_PREFERENCE &&
    handle !== 0 &&
    (bpf?.name.startsWith(SHORTCUT_PREFIX) ?? false)
  );
}

/** Whether a filter is what was wanted there, down to the last instruction. */
export function runs(
  { handle, bpf }: Filter,
  wanted: ShortcutProgram,
  index: (link: string) => number | undefined,
): boolean {
  if (bpf?.tag === undefined || !bpf.directAction || handle !== HANDLE || bpf.name !== filterName(wanted)) return false;
  const numbers = linksIn(wanted).map(index);
  if (wanted.type === 'foreign' || numbers.includes(undefined)) return false;
  return tagsOf(wanted, numbers.join(), (link) => index(link)!).includes(bpf.tag);
}

/** Tags of wanted programs, with the links' numbers they have in them: putting one together takes long. */
const known = new WeakMap<ShortcutProgram, { numbers: string; tags: string[] }>();

function tagsOf(program: ShortcutProgram, numbers: string, index: (link: string) => number): string[] {
  const before = known.get(program);
  if (before?.numbers === numbers) return before.tags;
  const made = { numbers, tags: tags(programOf(program, index)) };
  known.set(program, made);
  return made.tags;
}

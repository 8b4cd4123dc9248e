import type { Program } from '../../bpf/assembler.ts';
import { hostIn } from '../../bpf/host-in.ts';
import { hostOut } from '../../bpf/host-out.ts';
import { routerIn } from '../../bpf/router-in.ts';
import { programTags } from '../../bpf/tag.ts';
import { taskOut } from '../../bpf/task-out.ts';
import type { FastPathProgram } from '../../model/kinds/fast-path.ts';
import { FAST_PATH_PREFERENCE, FAST_PATH_PREFIX } from '../../model/linux-names.ts';
import type { Filter } from '../../netlink/traffic-control.ts';

/** Handle of every filter of ours; a filter that another program adds beside it gets another. */
export const FILTER_HANDLE = 1;

/** What `tc filter show` calls it. */
export function filterName({ type }: FastPathProgram): string {
  return `${FAST_PATH_PREFIX}${type}`;
}

/** Links that a program contains by ifindex. */
export function referencedLinks(program: FastPathProgram): string[] {
  if (program.type === 'host-in') return [program.lb, program.router];
  return program.type === 'task-out' ? [program.vxlan, program.lb] : [];
}

/** The instructions; `index` returns a link's ifindex, or throws. */
export function buildProgram(program: FastPathProgram, index: (link: string) => number): Program {
  switch (program.type) {
    case 'host-in':
      return hostIn({ ...program, lb: index(program.lb), router: index(program.router) });
    case 'host-out':
      return hostOut({ address: program.address });
    case 'router-in':
      return routerIn();
    case 'task-out':
      return taskOut({ vxlan: index(program.vxlan), lb: index(program.lb), number: program.number });
  }
}

/** Whether a filter is ours; all others, also at our preference, belong to other programs. */
export function isFastPathFilter({ kind, preference, handle, bpf }: Filter): boolean {
  // With handle 0 the kernel lists the classifier, which has no program.
  return (
    kind === 'bpf' &&
    preference === FAST_PATH_PREFERENCE &&
    handle !== 0 &&
    (bpf?.name.startsWith(FAST_PATH_PREFIX) ?? false)
  );
}

/** Whether a filter runs the desired program, down to the last instruction. */
export function matchesProgram(
  { handle, bpf }: Filter,
  desired: FastPathProgram,
  index: (link: string) => number | undefined,
): boolean {
  if (bpf?.tag === undefined || !bpf.directAction || handle !== FILTER_HANDLE || bpf.name !== filterName(desired))
    return false;
  const numbers = referencedLinks(desired).map(index);
  if (numbers.includes(undefined)) return false;
  return cachedTags(desired, numbers.join(), (link) => index(link)!).includes(bpf.tag);
}

/** Tags of desired programs by the ifindexes in them: building a program is slow. */
const tagCache = new WeakMap<FastPathProgram, { numbers: string; tags: string[] }>();

function cachedTags(program: FastPathProgram, numbers: string, index: (link: string) => number): string[] {
  const cached = tagCache.get(program);
  if (cached?.numbers === numbers) return cached.tags;
  const created = { numbers, tags: programTags(buildProgram(program, index)) };
  tagCache.set(program, created);
  return created.tags;
}

import { type FastPathProgram, referencedLinks } from '../../model/kinds/fast-path.ts';
import { FAST_PATH_PREFERENCE, FAST_PATH_PREFIX } from '../../model/linux-names.ts';
import type { Filter } from '../../netlink/traffic-control.ts';
import { programConstants } from './fast-path-objects.ts';

/** Handle of every filter of ours; a filter that another program adds beside it gets another. */
export const FILTER_HANDLE = 1;

/** What `tc filter show` calls it. */
export function filterName({ type }: Pick<FastPathProgram, 'type'>): string {
  return `${FAST_PATH_PREFIX}${type}`;
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

/** Whether a filter runs the desired program; `constants` is the content of its map of constants. */
export function matchesProgram(
  { handle, bpf }: Filter,
  constants: Buffer | undefined,
  desired: FastPathProgram,
  index: (link: string) => number | undefined,
): boolean {
  if (constants === undefined || !bpf?.directAction || handle !== FILTER_HANDLE || bpf.name !== filterName(desired))
    return false;
  const numbers = referencedLinks(desired).map(index);
  if (numbers.includes(undefined)) return false;
  return desiredConstants(desired, numbers.join(), (link) => index(link)!).equals(constants);
}

/** Constants of desired programs by the ifindexes in them: parsing an object file is slow. */
const constantsCache = new WeakMap<FastPathProgram, { numbers: string; constants: Buffer }>();

function desiredConstants(program: FastPathProgram, numbers: string, index: (link: string) => number): Buffer {
  const cached = constantsCache.get(program);
  if (cached?.numbers === numbers) return cached.constants;
  const constants = programConstants(program, index);
  constantsCache.set(program, { numbers, constants });
  return constants;
}

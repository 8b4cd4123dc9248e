import { sameValue } from './equality.ts';
import { descriptorOf, keyOf, type Op } from './kernel-state.ts';
import { type KernelObject, KINDS } from './kinds/registry.ts';

/** The drift that some steps repair, one line per object: the observed and the desired state. */
export function describeDrift(ops: readonly Op[]): string[] {
  const deleted = new Map<string, KernelObject>();
  const created = new Set<string>();
  for (const { verb, object } of ops) {
    if (verb === 'delete') deleted.set(keyOf(object), object);
    else if (verb === 'create') created.add(keyOf(object));
  }
  return ops.flatMap((op) => {
    const key = keyOf(op.object);
    if (op.verb === 'change') return [`${key}: ${differences(op.before, op.object)}`];
    if (op.verb === 'delete') return created.has(key) ? [] : [`${key}: unexpected`];
    const before = deleted.get(key);
    if (before === undefined) return [`${key}: missing`];
    return [`${key}: ${differences(before, op.object) || 'in the wrong place'}`];
  });
}

/** `weight 0 → 1, scheduler rr → wrr`. */
function differences(have: KernelObject, want: KernelObject): string {
  return changedFields(readable(have), readable(want)).join(', ');
}

const readable = (object: KernelObject) => descriptorOf(object, KINDS).readable(object);

function changedFields(have: unknown, want: unknown, path = ''): string[] {
  if (sameValue(have, want)) return [];
  if (isStringArray(have) && isStringArray(want)) return [`${path}: ${listDifference(have, want)}`];
  if (isRecord(have) && isRecord(want)) {
    const names = [...new Set([...Object.keys(have), ...Object.keys(want)])];
    return names.flatMap((name) => changedFields(have[name], want[name], path === '' ? name : `${path}.${name}`));
  }
  return [`${path} ${formatValue(have)} → ${formatValue(want)}`];
}

function listDifference(have: readonly string[], want: readonly string[]): string {
  const extra = have.filter((item) => !want.includes(item)).map((item) => `has "${item}"`);
  const lacking = want.filter((item) => !have.includes(item)).map((item) => `lacks "${item}"`);
  const all = [...extra, ...lacking];
  return all.length > 0 ? all.join(', ') : 'in another order, or doubled';
}

const isStringArray = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function formatValue(value: unknown): string {
  if (value === undefined) return 'none';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

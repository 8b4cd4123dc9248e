import { err, MeshError, ok, type Result } from '../base/errors.ts';
import type { KernelState } from './kernel-state.ts';
import { listOf, optional, text, wrongField } from './kinds/fields.ts';
import type { AnyObject, KindRegistry } from './kinds/kind.ts';
import { type KernelObject, KINDS } from './kinds/registry.ts';

/** A state as a JSON array, one object a line, ordered by key: equal states give equal text. */
export function stateToJson(state: KernelState): string {
  const keys = [...state.keys()].sort();
  return `[${keys.map((key) => `\n  ${JSON.stringify(state.get(key))}`).join(',')}\n]\n`;
}

/** Reads what `stateToJson` wrote; anything else is rejected with the place of the first fault. */
export function stateFromJson(json: string): Result<Map<string, KernelObject>> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (cause) {
    return err(new MeshError('invalid', 'not JSON: specify a state as this program printed it', { cause }));
  }
  return stateFromObjects(parsed);
}

/** As stateFromJson, out of parsed JSON. */
export function stateFromObjects(parsed: unknown): Result<Map<string, KernelObject>> {
  return stateFromData(parsed, KINDS) as Result<Map<string, KernelObject>>;
}

/**
 * A state from parsed JSON. Unknown kinds and fields are ignored, because another version may have more of them.
 */
export function stateFromData(parsed: unknown, kinds: KindRegistry): Result<Map<string, AnyObject>> {
  if (!Array.isArray(parsed)) return err(new MeshError('invalid', 'a state is a JSON array of kernel objects'));
  const state = new Map<string, AnyObject>();
  for (const [index, item] of parsed.entries()) {
    const fault = wrongField(item, { kind: text, netns: text });
    if (fault !== undefined) return refuse(index, fault, 'kernel object');
    const { kind } = item as AnyObject;
    if (!Object.hasOwn(kinds, kind)) continue;
    const fields = { ...COMMON_FIELDS, ...kinds[kind]!.fields };
    const wrong = wrongField(item, fields) ?? kinds[kind]!.missingField(item as AnyObject);
    if (wrong !== undefined) return refuse(index, wrong, kind);
    const object = selectFields(item as AnyObject, fields);
    state.set(kinds[kind]!.key(object), object);
  }
  return ok(state);
}

const COMMON_FIELDS = { kind: text, netns: text, foreign: optional(listOf(text)) };

function selectFields(object: AnyObject, fields: object): AnyObject {
  return Object.fromEntries(
    Object.entries(object).filter(([name]) => Object.hasOwn(fields, name)),
  ) as unknown as AnyObject;
}

function refuse(index: number, field: string, kind: string): Result<never> {
  const fault = field === '' ? 'is not an object' : `field "${field}" of a ${kind} is missing or wrong`;
  return err(new MeshError('invalid', `object ${index + 1} of the state: ${fault}`));
}

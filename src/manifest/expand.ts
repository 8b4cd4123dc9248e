import { type Alias, isAlias, isCollection, isMap, isPair, isScalar, isSeq, Scalar } from 'yaml';
import { interpolate } from './interpolate.ts';
import { LIMITS } from './limits.ts';
import { type Path, shorten } from './manifest-error.ts';

/** Offsets of every key and value, by `placeKey` of its path. */
export type SourcePositions = Map<string, { key: number; value: number }>;

export const pathKey = (path: Path): string => JSON.stringify(path);

export interface DocumentOptions {
  file: string;
  environment: Readonly<Record<string, string | undefined>>;
  /** Whether scalars at this path stay text as written: `FOO: 1.0` is the text `1.0`. */
  isTextField: (path: Path) => boolean;
}

export interface ExpansionContext extends DocumentOptions {
  positions: SourcePositions;
  /** Remaining budget, shared by the documents of a file. */
  budget: { nodes: number; characters: number };
  report(offset: number, path: Path, message: string, remedy: string): void;
  lineOf(offset: number): number;
}

/**
 * Plain data of a document's nodes: aliases followed, merge keys merged, variables replaced, duplicate keys reported.
 * Aliases are followed here because the library searches the whole document for each of them.
 * Recursion is bounded by LIMITS.depth for the text itself, and for aliases by the budget and `following`.
 */
export function expand(contents: unknown, context: ExpansionContext): unknown {
  const targets = resolveAnchors(contents);
  const activeAliases = new Set<unknown>();
  let budgetExceeded = false;

  function consumeBudget(node: unknown, path: Path, nodes: number, characters: number): boolean {
    context.budget.nodes -= nodes;
    context.budget.characters -= characters;
    if (context.budget.nodes >= 0 && context.budget.characters >= 0) return true;
    if (!budgetExceeded) {
      const limitText = context.budget.nodes < 0 ? `${LIMITS.nodes} values` : `${LIMITS.characters} characters`;
      const remedy = 'use fewer aliases (`*name`) of large anchors';
      context.report(offsetOf(node), path.slice(0, 3), `expands to more than ${limitText}`, remedy);
    }
    budgetExceeded = true;
    return false;
  }

  /** Calls `visit` with the node of an alias; reports an alias without an anchor or inside itself. */
  function resolveAlias(node: unknown, path: Path, visit: (target: unknown) => unknown): unknown {
    if (!isAlias(node)) return visit(node);
    const name = shorten(node.source);
    const target = targets.get(node);
    if (target === undefined) {
      context.report(offsetOf(node), path, `alias *${name} has no anchor before it`, `define it first with &${name}`);
    } else if (activeAliases.has(target) || activeAliases.size > LIMITS.depth) {
      context.report(offsetOf(node), path, `alias *${name} contains itself`, 'remove the alias');
    } else {
      activeAliases.add(target);
      const value = visit(target);
      activeAliases.delete(target);
      return value;
    }
    return undefined;
  }

  function scalarValue(node: Scalar, path: Path): unknown {
    const { value } = node;
    if (!consumeBudget(node, path, 1, typeof value === 'string' ? value.length : 8)) return undefined;
    if (typeof value !== 'string' && (value === null || !context.isTextField(path))) return value;
    const text = typeof value === 'string' ? value : (node.source ?? String(value));
    if (!text.includes('$') || isExtension(path)) return text;
    const replaced = interpolate(text, context.environment);
    if (replaced.ok) return consumeBudget(node, path, 0, replaced.value.length) ? replaced.value : undefined;
    context.report(offsetOf(node), path, replaced.error.message, replaced.error.remedy);
    return undefined;
  }

  function toPlain(node: unknown, path: Path): unknown {
    if (budgetExceeded) return undefined;
    if (isAlias(node)) return resolveAlias(node, path, (target) => toPlain(target, path));
    if (isScalar(node)) return scalarValue(node, path);
    if (!consumeBudget(node, path, 1, 2)) return undefined;
    if (isSeq(node)) {
      return node.items.map((item, index) => {
        const at = [...path, index];
        context.positions.set(pathKey(at), { key: offsetOf(item), value: offsetOf(item) });
        return toPlain(item, at);
      });
    }
    const map: Record<string, unknown> = {};
    addEntries(map, node, path, false);
    return map;
  }

  /** Adds the keys of a map node; merged keys never replace existing ones. */
  function addEntries(map: Record<string, unknown>, node: unknown, path: Path, isMerge: boolean): void {
    if (!isMap(node)) return;
    const seen = new Map<string, number>();
    const mergeValues: unknown[] = [];
    for (const { key, value } of node.items) {
      if (budgetExceeded) return;
      if (isScalar(key) && key.value === '<<' && key.type === Scalar.PLAIN) {
        mergeValues.push(value);
        continue;
      }
      const offset = offsetOf(key);
      const name = keyText(key);
      if (name === undefined || name === '__proto__') {
        context.report(offset, path, 'a key is not text', 'use text as key');
        continue;
      }
      const at = [...path, name];
      const first = seen.get(name);
      if (first !== undefined) {
        context.report(offset, at, `is written twice, first in line ${context.lineOf(first)}`, 'remove one of them');
        continue;
      }
      seen.set(name, offset);
      if (isMerge && Object.hasOwn(map, name)) continue;
      context.positions.set(pathKey(at), { key: offset, value: value === null ? offset : offsetOf(value) });
      map[name] = value === null ? null : toPlain(value, at);
    }
    for (const value of mergeValues) mergeInto(map, value, path);
  }

  function mergeInto(map: Record<string, unknown>, value: unknown, path: Path): void {
    resolveAlias(value, path, (target) => {
      if (isMap(target)) {
        if (consumeBudget(target, path, 1, 2)) addEntries(map, target, path, true);
      } else if (isSeq(target)) {
        for (const item of target.items) mergeInto(map, item, path);
      } else {
        context.report(
          offsetOf(value),
          path,
          'the merge key `<<` needs a map',
          'write `<<: *anchor`, the anchor being on a map',
        );
      }
      return undefined;
    });
  }

  context.positions.set(pathKey([]), { key: offsetOf(contents), value: offsetOf(contents) });
  return toPlain(contents, []);
}

/** The node of each alias: the last anchor of its name before it. */
function resolveAnchors(contents: unknown): Map<Alias, unknown> {
  const anchors = new Map<string, unknown>();
  const targets = new Map<Alias, unknown>();
  const visit = (node: unknown): void => {
    if (isAlias(node)) {
      const target = anchors.get(node.source);
      if (target !== undefined) targets.set(node, target);
      return;
    }
    if (isPair(node)) {
      visit(node.key);
      visit(node.value);
      return;
    }
    if (!isScalar(node) && !isCollection(node)) return;
    if (node.anchor !== undefined) anchors.set(node.anchor, node);
    if (isCollection(node)) for (const item of node.items) visit(item);
  };
  visit(contents);
  return targets;
}

/** Below an `x-` key, where variables are not replaced; they are replaced where an alias uses the value. */
function isExtension(path: Path): boolean {
  const key = path[0] === 'services' ? path[2] : path[0];
  return typeof key === 'string' && key.startsWith('x-') && key !== 'x-mesh';
}

function offsetOf(node: unknown): number {
  return (node as { range?: readonly number[] | null } | null)?.range?.[0] ?? 0;
}

function keyText(key: unknown): string | undefined {
  if (!isScalar(key)) return undefined;
  return typeof key.value === 'string' ? key.value : (key.source ?? '');
}

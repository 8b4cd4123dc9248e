import { type Alias, isAlias, isCollection, isMap, isPair, isScalar, isSeq, Scalar } from 'yaml';
import { interpolate } from './interpolate.ts';
import { LIMITS } from './limits.ts';
import { type Path, shorten } from './manifest-error.ts';

/** Offsets of every key and value, by `placeKey` of its path. */
export type Places = Map<string, { key: number; value: number }>;

export const placeKey = (path: Path): string => JSON.stringify(path);

export interface DocumentOptions {
  file: string;
  environment: Readonly<Record<string, string | undefined>>;
  /** Whether scalars at this path stay text as written: `FOO: 1.0` is the text `1.0`. */
  textual: (path: Path) => boolean;
}

export interface Expansion extends DocumentOptions {
  places: Places;
  /** What is left to spend; shared by the documents of a file. */
  budget: { nodes: number; characters: number };
  report(offset: number, path: Path, message: string, remedy: string): void;
  lineOf(offset: number): number;
}

/**
 * Plain data of a document's nodes: aliases followed, merge keys merged, variables replaced, duplicate keys reported.
 * Aliases are followed here because the library searches the whole document for each of them.
 * Recursion is bounded by LIMITS.depth for the text itself, and for aliases by the budget and `following`.
 */
export function expand(contents: unknown, run: Expansion): unknown {
  const targets = anchorsOf(contents);
  const following = new Set<unknown>();
  let spent = false;

  function spend(node: unknown, path: Path, nodes: number, characters: number): boolean {
    run.budget.nodes -= nodes;
    run.budget.characters -= characters;
    if (run.budget.nodes >= 0 && run.budget.characters >= 0) return true;
    if (!spent) {
      const bound = run.budget.nodes < 0 ? `${LIMITS.nodes} values` : `${LIMITS.characters} characters`;
      const remedy = 'use fewer aliases (`*name`) of large anchors';
      run.report(offsetOf(node), path.slice(0, 3), `expands to more than ${bound}`, remedy);
    }
    spent = true;
    return false;
  }

  /** Hands the node an alias stands for to `use`; an alias of nothing or inside itself is reported. */
  function follow(node: unknown, path: Path, use: (target: unknown) => unknown): unknown {
    if (!isAlias(node)) return use(node);
    const name = shorten(node.source);
    const target = targets.get(node);
    if (target === undefined) {
      run.report(offsetOf(node), path, `alias *${name} has no anchor before it`, `define it first with &${name}`);
    } else if (following.has(target) || following.size > LIMITS.depth) {
      run.report(offsetOf(node), path, `alias *${name} contains itself`, 'remove the alias');
    } else {
      following.add(target);
      const value = use(target);
      following.delete(target);
      return value;
    }
    return undefined;
  }

  function scalar(node: Scalar, path: Path): unknown {
    const { value } = node;
    if (!spend(node, path, 1, typeof value === 'string' ? value.length : 8)) return undefined;
    if (typeof value !== 'string' && (value === null || !run.textual(path))) return value;
    const text = typeof value === 'string' ? value : (node.source ?? String(value));
    if (!text.includes('$') || isNote(path)) return text;
    const replaced = interpolate(text, run.environment);
    if (replaced.ok) return spend(node, path, 0, replaced.value.length) ? replaced.value : undefined;
    run.report(offsetOf(node), path, replaced.error.message, replaced.error.remedy);
    return undefined;
  }

  function plain(node: unknown, path: Path): unknown {
    if (spent) return undefined;
    if (isAlias(node)) return follow(node, path, (target) => plain(target, path));
    if (isScalar(node)) return scalar(node, path);
    if (!spend(node, path, 1, 2)) return undefined;
    if (isSeq(node)) {
      return node.items.map((item, index) => {
        const at = [...path, index];
        run.places.set(placeKey(at), { key: offsetOf(item), value: offsetOf(item) });
        return plain(item, at);
      });
    }
    const map: Record<string, unknown> = {};
    fill(map, node, path, false);
    return map;
  }

  /** Adds the keys of a map node; keys that come by a merge never replace what is there. */
  function fill(map: Record<string, unknown>, node: unknown, path: Path, merged: boolean): void {
    if (!isMap(node)) return;
    const seen = new Map<string, number>();
    const merges: unknown[] = [];
    for (const { key, value } of node.items) {
      if (spent) return;
      if (isScalar(key) && key.value === '<<' && key.type === Scalar.PLAIN) {
        merges.push(value);
        continue;
      }
      const offset = offsetOf(key);
      const name = keyText(key);
      if (name === undefined || name === '__proto__') {
        run.report(offset, path, 'a key here is not a plain word', 'use text as key');
        continue;
      }
      const at = [...path, name];
      const first = seen.get(name);
      if (first !== undefined) {
        run.report(offset, at, `is written twice, first in line ${run.lineOf(first)}`, 'remove one of them');
        continue;
      }
      seen.set(name, offset);
      if (merged && Object.hasOwn(map, name)) continue;
      run.places.set(placeKey(at), { key: offset, value: value === null ? offset : offsetOf(value) });
      map[name] = value === null ? null : plain(value, at);
    }
    for (const value of merges) merge(map, value, path);
  }

  function merge(map: Record<string, unknown>, value: unknown, path: Path): void {
    follow(value, path, (target) => {
      if (isMap(target)) {
        if (spend(target, path, 1, 2)) fill(map, target, path, true);
      } else if (isSeq(target)) {
        for (const item of target.items) merge(map, item, path);
      } else {
        run.report(
          offsetOf(value),
          path,
          'the merge key `<<` needs a map',
          'write `<<: *anchor`, the anchor being on a map',
        );
      }
      return undefined;
    });
  }

  run.places.set(placeKey([]), { key: offsetOf(contents), value: offsetOf(contents) });
  return plain(contents, []);
}

/** Which node each alias stands for: the anchor of its name written last before it. */
function anchorsOf(contents: unknown): Map<Alias, unknown> {
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

/** Below an `x-` key of a person's own, where a dollar sign is no variable; an alias of it elsewhere is looked at there. */
function isNote(path: Path): boolean {
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

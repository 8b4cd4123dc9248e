import { readFileSync } from 'node:fs';

/** One line of results.jsonl, with the bare host's figure of the same boot, if any. */
export interface Result {
  bench: string;
  case: string;
  system: string;
  metric: string;
  unit: string;
  value: number;
  samples: number[];
  bare?: number;
  /** Relative to the bare host: the median of the ratios over the rounds, in which both alternate. */
  parts?: number;
}

/**
 * Lines of one run, one per (bench, case, system, metric). The bare host is measured in each boot: its best figure is
 * kept, and each other result refers to that of its own boot, which precedes it.
 */
export function readResults(path: string): Map<string, Result> {
  const results = new Map<string, Result>();
  const bare = new Map<string, Result>();
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line === '') continue;
    const result = JSON.parse(line) as Result;
    const floor = `${result.bench} ${result.case.replace(/(bare|remote|local)(?=-\d|$)/, '')} ${result.metric}`;
    if (result.system === 'bare') bare.set(floor, result);
    else {
      const control = bare.get(floor);
      if (control !== undefined) {
        result.bare = control.value;
        result.parts = median(
          result.samples.map((sample, round) => sample / (control.samples[round] ?? control.value)),
        );
      }
    }
    const key = keyOf(result.bench, result.case, result.system, result.metric);
    const before = results.get(key);
    results.set(key, before === undefined ? result : mergeResults(before, result));
  }
  return results;
}

export type Results = ReadonlyMap<string, Result>;

/** Bench, case, system and metric of one figure. */
export type FigureKey = readonly [bench: string, name: string, system: string, metric: string];

export function figureOf(results: Results, figure: FigureKey): number | undefined {
  return results.get(keyOf(...figure))?.value;
}

/** The numbers matched by a pattern in the case names of a benchmark, ascending. */
export function sizesOf(results: Results, bench: string, pattern: RegExp): number[] {
  const found = [...results.values()].flatMap((result) =>
    result.bench === bench ? [pattern.exec(result.case)?.[1]] : [],
  );
  return [...new Set(found.flatMap((size) => (size === undefined ? [] : [Number(size)])))].sort((a, b) => a - b);
}

export function keyOf(bench: string, name: string, system: string, metric: string): string {
  return [bench, name, system, metric].join(' ');
}

/** The better of two boots, with the bare host of the same boot. */
function mergeResults(a: Result, b: Result): Result {
  const best = isRate(a.unit) === a.value > b.value ? a : b;
  return { ...best, samples: [...a.samples, ...b.samples] };
}

export function isRate(unit: string): boolean {
  return unit === 'per_s' || unit === 'Mbit/s';
}

function median(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[samples.length >> 1]!;
}

/** Interquartile range of the samples relative to their median. */
export function spread(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (part: number) => sorted[Math.floor((sorted.length - 1) * part)]!;
  return at(0.5) === 0 ? 0 : (at(0.75) - at(0.25)) / at(0.5);
}

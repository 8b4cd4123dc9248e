import { PUBLISHED } from './published.ts';
import { figureOf, keyOf, type Results, sizesOf } from './results.ts';
import { formatNumber, rowOf, ruleOf } from './table.ts';

/** Tables of costs by size: one row for each figure, one column for each size. */

interface GrowthRow {
  label: string;
  system: string;
  valueAt: (size: number) => number | string | undefined;
  /** The figure whose growth is shown, if not the displayed one. */
  growthOf?: (size: number) => number | undefined;
}

/** The last column is the ratio of the largest size to the smallest. */
function growthTable(corner: string, sizes: readonly number[], lines: readonly GrowthRow[]): string[] {
  const out = [rowOf(corner, 'system', ...sizes.map((size) => thousands(size)), 'growth'), ruleOf(sizes.length + 3)];
  for (const { label, system, valueAt, growthOf = valueAt } of lines) {
    const cells = sizes.map(valueAt);
    if (cells.every((cell) => cell === undefined)) continue;
    const [first, last] = [sizes[0]!, sizes.at(-1)!].map((size) => Number(growthOf(size)));
    const growth = last! / first!;
    const shown = cells.map((cell) => (typeof cell === 'string' ? cell : cell === undefined ? '' : formatNumber(cell)));
    out.push(rowOf(label, system, ...shown, Number.isFinite(growth) ? `× ${formatNumber(growth)}` : ''));
  }
  return out;
}

function thousands(size: number): string {
  return size.toLocaleString('en-US');
}

const SERVERS = 2;

/** bench/program: cost of programming one kernel by the number of services. */
export function programmingSection(bench: string, results: Results): string[] {
  const sizes = sizesOf(results, bench, /^cold-(\d+)$/);
  const cold = (system: string, metric: string) => (size: number) =>
    figureOf(results, [bench, `cold-${size}`, system, metric]);
  const one = (system: string, metric: string) => (size: number) =>
    figureOf(results, [bench, `one-of-${size}`, system, metric]);
  const perService = (system: string) => (size: number) => {
    const time = cold(system, 'time')(size);
    return time === undefined ? undefined : (time / size) * 1000;
  };
  /** Too slow to measure for large sizes: one call per service and server, computed from the measured cost of one call. */
  const calls = (size: number) => {
    const measured = cold('ipvsadm', 'each')(size);
    const single = one('ipvsadm', 'time')(size);
    if (measured !== undefined || single === undefined) return measured;
    return `≈ ${formatNumber(single * size * (1 + SERVERS))} (computed)`;
  };
  const bytes = one('meshd', 'rss');
  const lines: GrowthRow[] = [
    { label: 'all at once into an empty kernel, ms', system: 'meshd', valueAt: cold('meshd', 'time') },
    { label: '… of that the plan', system: 'meshd', valueAt: cold('meshd', 'plan') },
    { label: '… of that the diff', system: 'meshd', valueAt: cold('meshd', 'diff') },
    { label: '… of that the kernel', system: 'meshd', valueAt: cold('meshd', 'apply') },
    { label: 'the same with ipvsadm -R, ms', system: 'ipvsadm', valueAt: cold('ipvsadm', 'time') },
    { label: 'the same with one ipvsadm per change, ms', system: 'ipvsadm', valueAt: calls },
    { label: 'all at once, µs per service', system: 'meshd', valueAt: perService('meshd') },
    { label: 'ipvsadm -R, µs per service', system: 'ipvsadm', valueAt: perService('ipvsadm') },
    { label: 'netlink sends, all at once', system: 'meshd', valueAt: cold('meshd', 'sends') },
    { label: 'one change (a real server added or removed), ms', system: 'meshd', valueAt: one('meshd', 'time') },
    { label: 'one change by one ipvsadm, ms', system: 'ipvsadm', valueAt: one('ipvsadm', 'time') },
    { label: 'netlink sends of one change', system: 'meshd', valueAt: one('meshd', 'sends') },
    { label: 'dumps for one change', system: 'meshd', valueAt: one('meshd', 'dumps') },
    { label: 'publishing or unpublishing one port, ms', system: 'meshd', valueAt: one('meshd', 'publish') },
    { label: 'audit of the whole state, ms', system: 'meshd', valueAt: one('meshd', 'audit') },
    { label: 'CPU of that audit, ms', system: 'meshd', valueAt: one('meshd', 'audit_cpu') },
    { label: 'one change during an audit, ms', system: 'meshd', valueAt: one('meshd', 'during_audit') },
    {
      label: 'memory of the process, MB',
      system: 'meshd',
      valueAt: (size) => (bytes(size) === undefined ? undefined : bytes(size)! / 1e6),
    },
  ];
  return [
    `## ${bench}`,
    '',
    `Services of ${SERVERS} real servers each, on one node.`,
    '',
    ...growthTable('services', sizes, lines),
    '',
  ];
}

/** bench/growth: cost of a packet by the size of the cluster. */
export function growthSection(bench: string, results: Results): string[] {
  const label = /^(.+)-(\d+)-services-(\d+)-nodes$/;
  const here = [...results.values()].filter((result) => result.bench === bench);
  const kinds = new Map(here.map(({ case: name, metric }) => [label.exec(name)?.[1] ?? name, metric]));
  const systems = [...new Set(here.map(({ system }) => system))];
  const table = (what: string, pattern: RegExp, name: (kind: string, size: number) => string) => {
    const lines = [...kinds].flatMap(([kind, metric]) =>
      systems.map(
        (system): GrowthRow => ({
          label: `${kind}, ${metric.replaceAll('_', ' ')}`,
          system,
          valueAt: (size) => figureOf(results, [bench, name(kind, size), system, metric]),
          growthOf: (size) => results.get(keyOf(bench, name(kind, size), system, metric))?.parts,
        }),
      ),
    );
    return [...growthTable(what, sizesOf(results, bench, pattern), lines), ''];
  };
  return [
    `## ${bench}`,
    '',
    'In ns. The bare host has no tables that grow: its rows are the control. Growth is that of the cost relative to the bare',
    'host in the same round.',
    '',
    ...table('further services, 3 nodes', /-(\d+)-services-3-nodes$/, (k, size) => `${k}-${size}-services-3-nodes`),
    ...table('nodes, no further service', /-0-services-(\d+)-nodes$/, (k, size) => `${k}-0-services-${size}-nodes`),
  ];
}

export function publishedSection(results: Results): string[] {
  const out = [
    '## kube-proxy: published figures, not run here',
    '',
    'From other machines and times, for the order of magnitude only. The last column is the most similar figure of this run.',
    '',
    rowOf('mode', 'what', 'published', 'source', 'meshd here'),
    ruleOf(5),
  ];
  for (const { mode, what, figure, ours, source } of PUBLISHED) {
    const mine = ours.map(([bench, name, system, metric]) => {
      const result = results.get(keyOf(bench, name, system, metric));
      return `${name} ${metric}: ${result === undefined ? 'not measured' : `${formatNumber(result.value)} ${result.unit}`}`;
    });
    out.push(rowOf(mode, what, figure, source, mine.join('; ')));
  }
  return [...out, ''];
}

/** Systems whose ratio is below this count as equal. */
const TIE = 1.1;

/**
 * Whether the systems rank in the same order on the full kernel as on the one-CPU host; costs are relative to the bare
 * host's in the same round, which is least affected by emulation and load.
 */
export function orderSection(bench: string, control: string, results: Results): string[] {
  const here = [...results.values()].filter((result) => result.bench === control && result.parts !== undefined);
  const metrics = new Map(here.map(({ case: name, metric }) => [name, metric]));
  const out = [
    `## Same ranking in ${control}?`,
    '',
    'Cheapest first, relative to the bare host in the same round (median); less than 10 % apart counts as equal.',
    '',
    rowOf('case', bench, control, 'same ranking'),
    ruleOf(4),
  ];
  for (const [name, metric] of metrics) {
    const parts = (which: string, system: string) => results.get(keyOf(which, name, system, metric))?.parts;
    const both = here
      .filter(({ case: other, system }) => other === name && parts(bench, system) !== undefined)
      .map(({ system }) => system);
    if (both.length < 2) continue;
    const ranked = (which: string) => both.toSorted((a, b) => parts(which, a)! - parts(which, b)!);
    const shown = (which: string) =>
      ranked(which)
        .map((system) => `${system} ${formatNumber(parts(which, system))}`)
        .join(' < ');
    const before = (which: string, a: string, b: string) => parts(which, a)! * TIE < parts(which, b)!;
    const turned = both.flatMap((a) =>
      both.filter((b) => before(bench, a, b) && before(control, b, a)).map((b) => `${b} before ${a}`),
    );
    out.push(rowOf(name, shown(bench), shown(control), turned.length === 0 ? 'yes' : `no: ${turned.join(', ')}`));
  }
  return [...out, ''];
}

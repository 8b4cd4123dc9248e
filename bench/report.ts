import { readFileSync } from 'node:fs';
import { GOALS, type Goal } from './goals.ts';
import { isRate, keyOf, type Result, readResults, spread } from './results.ts';
import { growthSection, orderSection, programmingSection, publishedSection } from './sizes.ts';
import { formatNumber, rowOf, ruleOf } from './table.ts';

/* report RESULTS ABOUT: the tables of one run, in Markdown. ABOUT holds lines `NAME: VALUE` on date, machine and versions. */

const [path = '', about = ''] = process.argv.slice(2);
const results = readResults(path);
const systems = [
  'bare',
  'routed',
  'ipvs',
  'mesh-path-plain',
  'mesh-path',
  'meshd-plain',
  'meshd-inside',
  'meshd',
  'docker',
  'ipvsadm',
].filter((system) => [...results.values()].some((result) => result.system === system));

const lines = [
  '# Results',
  '',
  ...readFileSync(about, 'utf8')
    .trim()
    .split('\n')
    .map((line) => `- ${line}`),
  '',
];
lines.push(
  'Only figures of this run are compared. Costs are the smallest, rates the largest of the samples in results.jsonl.',
  '',
);
lines.push(
  '## Goals',
  '',
  rowOf('bench / case', 'what', 'baseline', 'value of the baseline', 'value of meshd', 'ratio', 'goal', 'verdict'),
  ruleOf(8),
);
for (const goal of GOALS) lines.push(goalRow(goal));
lines.push('', ...singleChangeSummary('20000'), '');
for (const bench of new Set([...results.values()].map((result) => result.bench))) {
  if (bench.startsWith('program')) lines.push(...programmingSection(bench, results));
  else if (bench === 'growth') lines.push(...growthSection(bench, results));
  else lines.push(...benchTable(bench));
  if (bench === 'program') lines.push(...publishedSection(results));
  if (bench === 'packets-qemu') lines.push(...orderSection('packets', bench, results));
}
lines.push(...controlSection());
process.stdout.write(`${lines.join('\n')}\n`);

function goalRow(goal: Goal): string {
  const find = (system: string) => results.get(keyOf(goal.bench, goal.case, system, goal.metric));
  const baseline = find(goal.baseline);
  // The daemon if it was measured; else the path created by its plan and driver, marked in the table.
  const ours = find('meshd') ?? find('mesh-path');
  const head = [`${goal.bench} / ${goal.case}`, goal.what, goal.baseline];
  const sign = goal.bound === 'at most' ? '≤' : '≥';
  const bound = `${sign} ${goal.ratio}`;
  const of = goal.of ?? ((result: Result) => result.value);
  const [theirs, mine] = [baseline && of(baseline), ours && of(ours)];
  const shown = [
    formatNumber(theirs),
    ours?.system === 'mesh-path' ? `${formatNumber(mine)} (path only)` : formatNumber(mine),
  ];
  if (theirs === undefined || mine === undefined) return rowOf(...head, ...shown, '–', bound, 'not measured');
  const ratio = mine / theirs;
  const holds = goal.bound === 'at most' ? ratio <= goal.ratio : ratio >= goal.ratio;
  const missed = `**fails** by ${Math.round(Math.abs(ratio / goal.ratio - 1) * 100)} %`;
  return rowOf(...head, ...shown, ratio.toPrecision(2), bound, holds ? 'holds' : missed);
}

/** The target that is not a ratio: one change among many costs the same as among few, without a dump. */
function singleChangeSummary(services: string): string[] {
  const of = (size: string, metric: string) => results.get(keyOf('program', `one-of-${size}`, 'meshd', metric))?.value;
  const [many, few, sends, publish, dumps] = [
    of(services, 'time'),
    of('20', 'time'),
    of(services, 'sends'),
    of(services, 'publish_sends'),
    of(services, 'dumps'),
  ];
  if (many === undefined || few === undefined || sends === undefined || dumps === undefined) {
    return [`One change among ${services} services: not measured.`];
  }
  return [
    `One change among ${services} services: ${formatNumber(many)} ms (${formatNumber(few)} ms among 20), ${sends} netlink send, ` +
      `${dumps} dumps; publishing a port: ${formatNumber(publish)} sends over two namespaces and three netlink families.`,
  ];
}

function benchTable(bench: string): string[] {
  const here = [...results.values()].filter((result) => result.bench === bench);
  const cases = new Map<string, string>();
  for (const { case: name, metric, unit } of here) {
    const path = name.replace(/-bare(?=-\d|$)/, '-remote');
    if (bench.startsWith('packets') || bench === 'tcp') cases.set(`${path} ${metric}`, unit);
    else cases.set(`${name} ${metric}`, unit);
  }
  const shown = systems.filter((system) => here.some((result) => result.system === system));
  const out = [`## ${bench}`, '', rowOf('case', 'metric', 'unit', ...shown), ruleOf(3 + shown.length)];
  for (const [id, unit] of cases) {
    const [name = '', metric = ''] = id.split(' ');
    const cells = shown.map((system) => {
      const place = system === 'bare' ? name.replace(/-(remote|local)(?=-\d|$)/, '-bare') : name;
      const result = results.get(keyOf(bench, place, system, metric));
      const docker = results.get(keyOf(bench, name, 'docker', metric));
      if (result === undefined) return '';
      if (docker === undefined || docker.value === 0 || system === 'docker') return formatNumber(result.value);
      return `${formatNumber(result.value)} (${(result.value / docker.value).toFixed(2)})`;
    });
    out.push(rowOf(name, metric, unit, ...cells));
  }
  const ratios = here.some(({ system }) => system === 'docker')
    ? ['', 'In parentheses: relative to Docker (1.00).']
    : [];
  return [...out, ...ratios, ''];
}

/** The bare host is the same in every boot: the spread of its figures limits the accuracy of all figures. */
function controlSection(): string[] {
  const kept = [...results.values()].filter(
    ({ system, unit, metric, bench }) =>
      system === 'bare' && bench !== 'growth' && unit !== 'requests' && metric !== 'p99',
  );
  if (kept.length === 0) return [];
  const out = [
    '## Accuracy',
    '',
    rowOf('bare host', 'metric', 'interquartile range of the samples', 'samples'),
    ruleOf(4),
  ];
  for (const { case: name, metric, samples, bench, unit } of kept) {
    const width = `${(spread(samples) * 100).toFixed(1)} %${isRate(unit) ? ' (rate)' : ''}`;
    out.push(rowOf(`${bench} / ${name}`, metric, width, String(samples.length)));
  }
  return [...out, ''];
}

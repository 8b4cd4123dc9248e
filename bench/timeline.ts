import { readFileSync } from 'node:fs';

/*
 * timeline PROBES EVENTS: the results of the probes (probe.c) for each event: time until the first response on every node,
 * until every node has reached every task, and failed calls. EVENTS: lines `MS NAME [TASKS|VICTIM|COMMAND_MS]`, the last one
 * `MS end`. Standard output: lines `CASE METRIC UNIT HOW VALUE…` for record(), one value for each occurrence of the event.
 */

interface ProbeCall {
  at: number;
  address: string;
  task?: string;
}

const [probes = '', events = ''] = process.argv.slice(2);
const calls = readFileSync(probes, 'utf8')
  .split('\n')
  .flatMap((line): ProbeCall[] => {
    const [at, address, , verdict, task] = line.split(' ');
    if (at === undefined || address === undefined || task === undefined) return [];
    return [verdict === 'ok' ? { at: Number(at), address, task } : { at: Number(at), address }];
  });
const marks = readFileSync(events, 'utf8')
  .trim()
  .split('\n')
  .map((line) => line.split(' '));
const found = new Map<string, number[]>();
const nodes = [...new Set(calls.map(({ address }) => address))].sort();

marks.slice(0, -1).forEach(([time = '', name = '', detail = ''], index) => {
  const start = Number(time);
  const end = Number(marks[index + 1]![0]);
  const here = calls.filter(({ at }) => at >= start && at < end);
  const before = new Set(calls.flatMap(({ at, task }) => (at < start && task !== undefined ? [task] : [])));
  const record = (metric: string, unit: string, value: number | undefined) => {
    if (value === undefined) return;
    const figure = `${name} ${metric} ${unit} ${unit === 'calls' ? 'max' : 'min'}`;
    found.set(figure, [...(found.get(figure) ?? []), Math.round(value)]);
  };
  /** The latest, over all nodes, of the first matching response; undefined if a node never returned one. */
  const everywhere = (fits: (task: string) => boolean, over = nodes): number | undefined => {
    const firsts = over.map((node) => here.find(({ address, task }) => address === node && task && fits(task))?.at);
    return firsts.includes(undefined) ? undefined : Math.max(...(firsts as number[])) - start;
  };
  const failures = (from: number, over = nodes) =>
    here.filter((c) => c.at >= from && c.task === undefined && over.includes(c.address));
  const failed = (from = start, over = nodes) => {
    const list = failures(from, over);
    record('failed', 'calls', list.length);
    if (list.length > 0) record('last_failure', 'ms', Math.max(...list.map(({ at }) => at)) - start);
  };

  if (name === 'create') {
    record(
      'first_answer',
      'ms',
      everywhere(() => true),
    );
    record('all_tasks', 'ms', allSeen(Number(detail)));
    // Failures before the first response of an endpoint do not count.
    const lost = nodes.flatMap((node) => failures(here.find((c) => c.address === node && c.task)?.at ?? end, [node]));
    record('failed', 'calls', lost.length);
  } else if (name === 'scale-up') {
    record('all_tasks', 'ms', allSeen(Number(detail)));
    failed();
  } else if (name === 'scale-down') {
    const stays = new Set(here.filter(({ at }) => at > end - 3000).map(({ task }) => task));
    const last = here.filter(({ task }) => task !== undefined && !stays.has(task)).map(({ at }) => at);
    const until = last.length > 0 ? Math.max(...last) - start : 0;
    record('last_answer', 'ms', until);
    // Without the duration of the command line tool, which includes its start.
    record('after_command', 'ms', Math.max(0, until - Number(detail)));
    failed();
  } else if (name === 'killed') {
    record(
      'replaced',
      'ms',
      everywhere((task) => !before.has(task)),
    );
    failed();
  } else if (name === 'cut') {
    failed(
      start,
      nodes.filter((node) => node !== detail),
    );
  } else if (name === 'back') {
    record(
      'answers',
      'ms',
      everywhere(() => true, [detail]),
    );
    failed(
      start,
      nodes.filter((node) => node !== detail),
    );
  }

  function allSeen(count: number): number | undefined {
    const times = nodes.map((node) => {
      const seen = new Map<string, number>();
      for (const { at, address, task } of here) if (address === node && task && !seen.has(task)) seen.set(task, at);
      return [...seen.values()].sort((a, b) => a - b)[count - 1];
    });
    return times.includes(undefined) ? undefined : Math.max(...(times as number[])) - start;
  }
});
for (const [figure, values] of found) process.stdout.write(`${figure} ${values.join(' ')}\n`);

import { readFileSync } from 'node:fs';

/*
 * timeline PROBES EVENTS: what the probes (probe.c) say about each event: until the first answer on every node, until
 * the last task was seen on every node, calls that failed. EVENTS: lines `MS NAME [TASKS|VICTIM|COMMAND_MS]`, the last one `MS end`.
 * Standard output: lines `CASE METRIC UNIT HOW VALUE…` for record(), one value for each time the event took place.
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
  const say = (metric: string, unit: string, value: number | undefined) => {
    if (value === undefined) return;
    const figure = `${name} ${metric} ${unit} ${unit === 'calls' ? 'max' : 'min'}`;
    found.set(figure, [...(found.get(figure) ?? []), Math.round(value)]);
  };
  /** The latest, over all nodes, of the first answer that fits; undefined when a node never gave one. */
  const everywhere = (fits: (task: string) => boolean, over = nodes): number | undefined => {
    const firsts = over.map((node) => here.find(({ address, task }) => address === node && task && fits(task))?.at);
    return firsts.includes(undefined) ? undefined : Math.max(...(firsts as number[])) - start;
  };
  const failures = (from: number, over = nodes) =>
    here.filter((c) => c.at >= from && c.task === undefined && over.includes(c.address));
  const failed = (from = start, over = nodes) => {
    const list = failures(from, over);
    say('failed', 'calls', list.length);
    if (list.length > 0) say('last_failure', 'ms', Math.max(...list.map(({ at }) => at)) - start);
  };

  if (name === 'create') {
    say(
      'first_answer',
      'ms',
      everywhere(() => true),
    );
    say('all_tasks', 'ms', allSeen(Number(detail)));
    // Before a door first answers there is nothing to fail.
    const lost = nodes.flatMap((node) => failures(here.find((c) => c.address === node && c.task)?.at ?? end, [node]));
    say('failed', 'calls', lost.length);
  } else if (name === 'scale-up') {
    say('all_tasks', 'ms', allSeen(Number(detail)));
    failed();
  } else if (name === 'scale-down') {
    const stays = new Set(here.filter(({ at }) => at > end - 3000).map(({ task }) => task));
    const last = here.filter(({ task }) => task !== undefined && !stays.has(task)).map(({ at }) => at);
    const until = last.length > 0 ? Math.max(...last) - start : 0;
    say('last_answer', 'ms', until);
    // The share of the mesh alone: a command line tool is a program to start.
    say('after_command', 'ms', Math.max(0, until - Number(detail)));
    failed();
  } else if (name === 'killed') {
    say(
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
    say(
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

import type { Node, Service, Task, WatchEvent } from '../rpc/gen/mesh.ts';
import { clean, truncate } from './table.ts';
import { hasEnded, isOrdinary, stateText, taskName, troubleOf } from './task-text.ts';

/** What the watch has told so far. */
export interface Seen {
  services: Map<string, Service>;
  tasks: Map<string, Task>;
  nodes: Map<string, Node>;
  removed: Set<string>;
  /** All that existed when the watch began has been told. */
  ready: boolean;
}

export function nothingSeen(): Seen {
  return { services: new Map(), tasks: new Map(), nodes: new Map(), removed: new Set(), ready: false };
}

export function see(seen: Seen, { action, object }: WatchEvent): void {
  if (action === 'ready') seen.ready = true;
  if (object === undefined) return;
  const kinds = { service: seen.services, task: seen.tasks, node: seen.nodes } as const;
  const kind = kinds[object.$case] as Map<string, Service | Task | Node>;
  if (action !== 'removed') kind.set(object.value.id, object.value);
  else {
    kind.delete(object.value.id);
    seen.removed.add(object.value.id);
  }
}

/** How far one service is. */
export interface ServiceProgress {
  name: string;
  /** Tasks there should be. */
  wanted: number;
  /** Tasks of the service's generation that run and are healthy where they are asked, or ran to their end as they should. */
  running: number;
  /** Tasks that are on their way out of a node that can still say so. */
  leaving: number;
  /** One line for each wanted task: `1/3: running on node2`. Trouble is what keeps it from running for longer than usual. */
  lines: { text: string; running: boolean; reason: string; trouble: string }[];
  done: boolean;
  /** Why it will never be done, when that is sure. */
  hopeless?: string;
}

export function progressOf(seen: Seen, serviceId: string): ServiceProgress {
  const service = seen.services.get(serviceId);
  if (service === undefined) {
    const missing = { name: serviceId, wanted: 0, running: 0, leaving: 0, lines: [], done: false };
    return seen.ready ? { ...missing, hopeless: `service ${serviceId} was removed meanwhile` } : missing;
  }
  const tasks = [...seen.tasks.values()].filter((task) => task.serviceId === serviceId);
  const condition = service.spec?.restart?.condition ?? 'any';
  const live = tasks.filter((task) => task.desired === 'running' && !hasEnded(task));
  const isNew = (task: Task) => task.generation === service.taskGeneration;
  // As the manager sees it (src/decide/serve.ts): a task with a healthcheck takes clients when it is healthy.
  const serves = ({ status }: Task) =>
    status?.state === 'running' && (service.spec?.health === undefined || status.health === 'healthy');
  // Of a slot the task of the new generation is shown while it takes over. A slot without a live task shows its newest
  // dead one: that is where the reason is.
  const rank = (task: Task) => Number(live.includes(task)) * 2 + Number(isNew(task));
  const bySlot = new Map<number, Task>();
  for (const task of tasks) {
    const shown = bySlot.get(task.slot);
    const better =
      shown === undefined ||
      rank(task) > rank(shown) ||
      (rank(task) === rank(shown) && task.createdAt > shown.createdAt);
    if (better && (live.includes(task) || hasEnded(task))) bySlot.set(task.slot, task);
  }
  const shown = [...bySlot.values()].sort(
    (a, b) => Number(live.includes(b)) - Number(live.includes(a)) || a.slot - b.slot,
  );
  const global = service.spec?.mode === 'global';
  const wanted = global
    ? Math.max(service.desired, new Set(live.map(({ slot }) => slot)).size)
    : (service.spec?.replicas ?? 0);
  const slots = shown.slice(0, wanted).sort((a, b) => a.slot - b.slot);
  const finished = slots.filter(
    (task) => isNew(task) && task.status?.state === 'complete' && condition !== 'any',
  ).length;
  const running = live.filter((task) => isNew(task) && serves(task)).length + finished;
  const leaving = tasks.filter(
    (task) => task.desired !== 'running' && !hasEnded(task) && seen.nodes.get(task.nodeId ?? '')?.state === 'ready',
  ).length;
  const failed =
    condition === 'none' ? slots.find((task) => isNew(task) && task.status?.state === 'failed') : undefined;
  const lines = Array.from({ length: wanted }, (_, index) => {
    const task = slots[index];
    const up = task !== undefined && isNew(task) && serves(task);
    return lineOf(task, up, task === undefined || isNew(task), lastEnd(task, tasks), `${index + 1}/${wanted}`);
  });
  return {
    name: service.name,
    wanted,
    running,
    leaving,
    lines,
    done: seen.ready && running === wanted && live.length + finished === wanted && leaving === 0,
    ...(failed === undefined
      ? {}
      : {
          hopeless: `${taskName(failed)} failed and is not restarted (restart_policy none): ${clean(troubleOf(failed))}`,
        }),
  };
}

/** Why the task before one that waits for its start ended; empty when there is nothing to tell. */
function lastEnd(task: Task | undefined, tasks: readonly Task[]): string {
  if (task?.status?.state !== 'new') return '';
  const ended = tasks
    .filter(({ slot, generation }) => slot === task.slot && generation === task.generation)
    .filter(hasEnded)
    .sort((a, b) => b.createdAt - a.createdAt);
  return ended[0] === undefined ? '' : clean(troubleOf(ended[0]));
}

function lineOf(
  task: Task | undefined,
  running: boolean,
  isNew: boolean,
  lastEnd: string,
  number: string,
): ServiceProgress['lines'][number] {
  const state = task === undefined ? 'new' : stateText(task);
  const where = task === undefined || task.nodeName === '' ? '' : ` on ${task.nodeName}`;
  const own = task === undefined ? '' : clean(troubleOf(task));
  const reason = own === '' ? lastEnd : own;
  const said = own !== '' ? `: ${own}` : lastEnd === '' ? '' : `, the one before: ${lastEnd}`;
  const text = `${number}: ${state}${where}${isNew ? '' : ', to be replaced'}${said}`;
  return { text, running, reason, trouble: isOrdinary(reason) ? '' : reason };
}

/** The lines a terminal shows: everything for up to `room` tasks, else those that do not run yet. */
export function progressLines(all: readonly ServiceProgress[], columns: number, room: number): string[] {
  const wanted = all.reduce((sum, { wanted }) => sum + wanted, 0);
  const running = all.reduce((sum, each) => sum + Math.min(each.running, each.wanted), 0);
  const leaving = all.reduce((sum, { leaving }) => sum + leaving, 0);
  const tasks = all.flatMap(({ name, lines }) =>
    lines.map((line) => ({ ...line, text: all.length === 1 ? line.text : `${name} ${line.text}` })),
  );
  const shown = (tasks.length <= room ? tasks : tasks.filter(({ running }) => !running)).slice(0, Math.max(0, room));
  return [
    `overall progress: ${running} out of ${wanted} tasks${leaving === 0 ? '' : `, ${leaving} leaving`}`,
    ...shown.map(({ text }) => text),
  ].map((line) => truncate(line, Math.max(20, columns - 1)));
}

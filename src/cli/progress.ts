import type { Node, Service, Task, WatchEvent } from '../rpc/messages.ts';
import { sanitize, truncate } from './text/table.ts';
import { hasEnded, isStartingUp, stateText, taskName, taskProblem } from './text/task.ts';

/** What the watch has told so far. */
export interface WatchedState {
  services: Map<string, Service>;
  tasks: Map<string, Task>;
  nodes: Map<string, Node>;
  removed: Set<string>;
  /** All that existed when the watch began has been told. */
  isSynced: boolean;
}

export function emptyWatchedState(): WatchedState {
  return { services: new Map(), tasks: new Map(), nodes: new Map(), removed: new Set(), isSynced: false };
}

export function applyWatchEvent(state: WatchedState, { action, object }: WatchEvent): void {
  if (action === 'ready') state.isSynced = true;
  if (object === undefined) return;
  const kinds = { service: state.services, task: state.tasks, node: state.nodes } as const;
  const kind = kinds[object.case] as Map<string, Service | Task | Node>;
  if (action !== 'removed') kind.set(object.value.id, object.value);
  else {
    kind.delete(object.value.id);
    state.removed.add(object.value.id);
  }
}

/** How far one service is. */
export interface ServiceProgress {
  name: string;
  /** Tasks there should be. */
  desired: number;
  /** Tasks of the service's generation that run and are healthy where they are asked, or ran to their end as they should. */
  running: number;
  /** Tasks that are on their way out of a node that can still say so. */
  stopping: number;
  /** One line for each desired task: `1/3: running on node2`. Trouble is what keeps it from running for longer than usual. */
  lines: { text: string; running: boolean; reason: string; trouble: string }[];
  done: boolean;
  /** Why it will never be done, when that is sure. */
  failure?: string;
}

export function serviceProgress(watched: WatchedState, serviceId: string): ServiceProgress {
  const service = watched.services.get(serviceId);
  if (service === undefined) {
    const missing = { name: serviceId, desired: 0, running: 0, stopping: 0, lines: [], done: false };
    return watched.isSynced ? { ...missing, failure: `service ${serviceId} was removed meanwhile` } : missing;
  }
  const tasks = [...watched.tasks.values()].filter((task) => task.serviceId === serviceId);
  const condition = service.spec?.restart?.condition ?? 'any';
  const liveTasks = tasks.filter((task) => task.desired === 'running' && !hasEnded(task));
  const isCurrent = (task: Task) => task.generation === service.taskGeneration;
  // As the manager sees it (src/decide/endpoint-state.ts): a task with a healthcheck takes clients when it is healthy.
  const isServing = ({ status }: Task) =>
    status?.state === 'running' && (service.spec?.health === undefined || status.health === 'healthy');
  // Of a slot the task of the new generation is shown while it takes over. A slot without a live task shows its newest
  // dead one: that is where the reason is.
  const rank = (task: Task) => Number(liveTasks.includes(task)) * 2 + Number(isCurrent(task));
  const bySlot = new Map<number, Task>();
  for (const task of tasks) {
    const shown = bySlot.get(task.slot);
    const better =
      shown === undefined ||
      rank(task) > rank(shown) ||
      (rank(task) === rank(shown) && task.createdAt > shown.createdAt);
    if (better && (liveTasks.includes(task) || hasEnded(task))) bySlot.set(task.slot, task);
  }
  const shown = [...bySlot.values()].sort(
    (a, b) => Number(liveTasks.includes(b)) - Number(liveTasks.includes(a)) || a.slot - b.slot,
  );
  const global = service.spec?.mode === 'global';
  const desired = global
    ? Math.max(service.desired, new Set(liveTasks.map(({ slot }) => slot)).size)
    : (service.spec?.replicas ?? 0);
  const slots = shown.slice(0, desired).sort((a, b) => a.slot - b.slot);
  const finished = slots.filter(
    (task) => isCurrent(task) && task.status?.state === 'complete' && condition !== 'any',
  ).length;
  const running = liveTasks.filter((task) => isCurrent(task) && isServing(task)).length + finished;
  const stopping = tasks.filter(
    (task) => task.desired !== 'running' && !hasEnded(task) && watched.nodes.get(task.nodeId ?? '')?.state === 'ready',
  ).length;
  const failed =
    condition === 'none' ? slots.find((task) => isCurrent(task) && task.status?.state === 'failed') : undefined;
  const lines = Array.from({ length: desired }, (_, index) => {
    const task = slots[index];
    const isRunning = task !== undefined && isCurrent(task) && isServing(task);
    return taskLine(
      task,
      isRunning,
      task === undefined || isCurrent(task),
      lastFailure(task, tasks),
      `${index + 1}/${desired}`,
    );
  });
  return {
    name: service.name,
    desired,
    running,
    stopping,
    lines,
    done: watched.isSynced && running === desired && liveTasks.length + finished === desired && stopping === 0,
    ...(failed === undefined
      ? {}
      : {
          failure: `${taskName(failed)} failed and is not restarted (restart_policy none): ${sanitize(taskProblem(failed))}`,
        }),
  };
}

/** Why the task before one that waits for its start ended; empty when there is nothing to tell. */
function lastFailure(task: Task | undefined, tasks: readonly Task[]): string {
  if (task?.status?.state !== 'new') return '';
  const ended = tasks
    .filter(({ slot, generation }) => slot === task.slot && generation === task.generation)
    .filter(hasEnded)
    .sort((a, b) => b.createdAt - a.createdAt);
  return ended[0] === undefined ? '' : sanitize(taskProblem(ended[0]));
}

function taskLine(
  task: Task | undefined,
  running: boolean,
  isCurrent: boolean,
  previousFailure: string,
  number: string,
): ServiceProgress['lines'][number] {
  const state = task === undefined ? 'new' : stateText(task);
  const where = task === undefined || task.nodeName === '' ? '' : ` on ${task.nodeName}`;
  const ownReason = task === undefined ? '' : sanitize(taskProblem(task));
  const reason = ownReason === '' ? previousFailure : ownReason;
  const reasonText =
    ownReason !== '' ? `: ${ownReason}` : previousFailure === '' ? '' : `, the one before: ${previousFailure}`;
  const text = `${number}: ${state}${where}${isCurrent ? '' : ', to be replaced'}${reasonText}`;
  return { text, running, reason, trouble: task !== undefined && ownReason !== '' && isStartingUp(task) ? '' : reason };
}

/** The lines a terminal shows: everything for up to `room` tasks, else those that do not run yet. */
export function progressLines(services: readonly ServiceProgress[], columns: number, maxLines: number): string[] {
  const desired = services.reduce((sum, { desired }) => sum + desired, 0);
  const running = services.reduce((sum, each) => sum + Math.min(each.running, each.desired), 0);
  const stopping = services.reduce((sum, { stopping }) => sum + stopping, 0);
  const tasks = services.flatMap(({ name, lines }) =>
    lines.map((line) => ({ ...line, text: services.length === 1 ? line.text : `${name} ${line.text}` })),
  );
  const shown = (tasks.length <= maxLines ? tasks : tasks.filter(({ running }) => !running)).slice(
    0,
    Math.max(0, maxLines),
  );
  return [
    `overall progress: ${running} out of ${desired} tasks${stopping === 0 ? '' : `, ${stopping} stopping`}`,
    ...shown.map(({ text }) => text),
  ].map((line) => truncate(line, Math.max(20, columns - 1)));
}

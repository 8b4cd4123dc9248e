import { printable } from '../base/printable.ts';
import type { Node, Service, Task, WatchEvent } from '../rpc/messages.ts';
import { truncate } from './text/table.ts';
import { hasEnded, isStartingUp, stateText, taskName, taskProblem } from './text/task.ts';

/** Nodes that a progress line names. */
const MAX_NAMED = 3;

/** The objects the watch has reported so far. */
export interface WatchedState {
  services: Map<string, Service>;
  tasks: Map<string, Task>;
  nodes: Map<string, Node>;
  removed: Set<string>;
  /** Every object that existed when the watch began has been reported. */
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

/** Progress of one service. */
export interface ServiceProgress {
  name: string;
  /** Number of desired tasks. */
  desired: number;
  /** Tasks of the current generation that run (and are healthy, with a health check) or completed as configured. */
  running: number;
  /** Tasks that are being stopped on nodes that are ready. */
  stopping: number;
  /** Ready nodes that do not have its ports as declared yet: how many, and some of their names. */
  publishing: { count: number; names: string[] };
  /** One line per desired task: `1/3: running on node2`. `trouble` is a reason that a starting task does not normally have. */
  lines: { text: string; running: boolean; reason: string; trouble: string }[];
  done: boolean;
  /** Why the service can never converge. */
  failure?: string;
}

export function serviceProgress(watched: WatchedState, serviceId: string): ServiceProgress {
  const service = watched.services.get(serviceId);
  if (service === undefined) {
    const publishing = { count: 0, names: [] };
    const missing = { name: serviceId, desired: 0, running: 0, stopping: 0, publishing, lines: [], done: false };
    return watched.isSynced ? { ...missing, failure: `service ${serviceId} was removed` } : missing;
  }
  const tasks = [...watched.tasks.values()].filter((task) => task.serviceId === serviceId);
  const condition = service.spec?.restart?.condition ?? 'any';
  const liveTasks = tasks.filter((task) => task.desired === 'running' && !hasEnded(task));
  const isCurrent = (task: Task) => task.generation === service.taskGeneration;
  // The same rule as src/decide/endpoint-state.ts: a task with a health check is an endpoint only while it is healthy.
  const isServing = ({ status }: Task) =>
    status?.state === 'running' && (service.spec?.health === undefined || status.health === 'healthy');
  // A slot shows its live task, of the new generation if there is one; without a live task it shows the newest ended
  // one, which has the reason.
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
  const publishing = publishingNodes(service, [...watched.nodes.values()]);
  const isSettled = liveTasks.length + finished === desired && stopping === 0 && publishing.count === 0;
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
    publishing,
    lines,
    done: watched.isSynced && running === desired && isSettled,
    ...(failed === undefined
      ? {}
      : {
          failure: `${taskName(failed)} failed and is not restarted (restart_policy none): ${taskProblem(failed)}`,
        }),
  };
}

/** The nodes that the manager waits for, and those that have not applied anything since they connected. */
function publishingNodes(service: Service, nodes: readonly Node[]): ServiceProgress['publishing'] {
  if ((service.spec?.ports ?? []).length === 0) return { count: 0, names: [] };
  const connecting = nodes
    .filter(({ state, acknowledgedRevision }) => state === 'ready' && acknowledgedRevision === 0)
    .map(({ name }) => name)
    .filter((name) => !service.pendingNodes.includes(name));
  return { count: service.pending + connecting.length, names: [...service.pendingNodes, ...connecting].sort() };
}

/** `node1, node2 and 3 more` */
export function publishingText({ count, names }: ServiceProgress['publishing']): string {
  const shown = names.slice(0, MAX_NAMED);
  return shown.join(', ') + (count > shown.length ? ` and ${count - shown.length} more` : '');
}

/** Why the previous task of a slot that waits for a restart ended; otherwise empty. */
function lastFailure(task: Task | undefined, tasks: readonly Task[]): string {
  if (task?.status?.state !== 'new') return '';
  const ended = tasks
    .filter(({ slot, generation }) => slot === task.slot && generation === task.generation)
    .filter(hasEnded)
    .sort((a, b) => b.createdAt - a.createdAt);
  return ended[0] === undefined ? '' : taskProblem(ended[0]);
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
  const ownReason = task === undefined ? '' : taskProblem(task);
  const reason = ownReason === '' ? previousFailure : ownReason;
  const reasonText =
    ownReason !== '' ? `: ${ownReason}` : previousFailure === '' ? '' : `, previous task: ${previousFailure}`;
  const text = `${number}: ${state}${where}${isCurrent ? '' : ', to be replaced'}${reasonText}`;
  return { text, running, reason, trouble: task !== undefined && ownReason !== '' && isStartingUp(task) ? '' : reason };
}

/** The lines of a terminal: all tasks if there are at most `maxLines`, otherwise those that do not run yet. */
export function progressLines(services: readonly ServiceProgress[], columns: number, maxLines: number): string[] {
  const desired = services.reduce((sum, { desired }) => sum + desired, 0);
  const running = services.reduce((sum, each) => sum + Math.min(each.running, each.desired), 0);
  const stopping = services.reduce((sum, { stopping }) => sum + stopping, 0);
  const publishing = services
    .map((each) => each.publishing)
    .reduce<ServiceProgress['publishing']>(unionOf, { count: 0, names: [] });
  const tasks = services.flatMap(({ name, lines }) =>
    lines.map((line) => ({ ...line, text: services.length === 1 ? line.text : `${name} ${line.text}` })),
  );
  const shown = (tasks.length <= maxLines ? tasks : tasks.filter(({ running }) => !running)).slice(
    0,
    Math.max(0, maxLines),
  );
  const stoppingText = stopping === 0 ? '' : `, ${stopping} stopping`;
  // While tasks are missing, they are what the user waits for.
  const publishingLine =
    publishing.count === 0 || running < desired
      ? ''
      : `, waiting for ${publishingText(publishing)} to publish the ports`;
  return [
    `overall progress: ${running} out of ${desired} tasks${stoppingText}${publishingLine}`,
    ...shown.map(({ text }) => text),
  ].map((line) => truncate(printable(line), Math.max(20, columns - 1)));
}

/** The nodes of several services; those without a name may be the same. */
function unionOf(a: ServiceProgress['publishing'], b: ServiceProgress['publishing']): ServiceProgress['publishing'] {
  const names = [...new Set([...a.names, ...b.names])].sort();
  return { names, count: Math.max(a.count, b.count, names.length) };
}

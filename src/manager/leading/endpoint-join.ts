import { acceptsConnections, withJoinRevision } from '../../decide/endpoint-state.ts';
import type { Node, Task } from '../../model/cluster.ts';
import type { Write } from '../../store/store.ts';
import type { ClusterView } from './cluster-view.ts';
import { put } from './writer.ts';

/**
 * Sets `joinedRevision` on every task that becomes an endpoint as a result of these writes, either because the task itself
 * changes or because its node becomes ready. Must be the last step before commit, because it assumes that no other write
 * precedes it.
 */
export function withEndpointJoins(writes: readonly Write[], view: ClusterView, now: number): Write[] {
  const revision = view.revision + 1;
  const nodes = new Map<string, Node>();
  for (const write of writes) {
    if ('put' in write && write.put === 'nodes')
      nodes.set(write.object.id, write.object as Record<string, unknown> & Node);
  }
  const nodeOf = (task: Task) => nodes.get(task.nodeId ?? '') ?? view.node(task.nodeId ?? '');
  const becomesEndpoint = (task: Task) => {
    const before = view.task(task.id);
    const wasEndpoint = before !== undefined && acceptsConnections(before, view.node(before.nodeId ?? ''));
    return !wasEndpoint && acceptsConnections(task, nodeOf(task));
  };
  const written = new Set<string>();
  const result = writes.map((write): Write => {
    if (!('put' in write) || write.put !== 'tasks') return write;
    const task = write.object as Record<string, unknown> & Task;
    written.add(task.id);
    return becomesEndpoint(task) ? put<Task>('tasks', withJoinRevision(task, revision, now)) : write;
  });
  for (const id of nodes.keys()) {
    for (const task of view.tasksOnNode(id)) {
      if (!written.has(task.id) && becomesEndpoint(task))
        result.push(put<Task>('tasks', withJoinRevision(task, revision, now)));
    }
  }
  return result;
}

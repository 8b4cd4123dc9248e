import type { Clock } from '../../base/clock.ts';
import { MeshError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Node } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import { LIMIT } from '../../model/limits.ts';
import type { Store } from '../../store/store.ts';
import type { ClusterView } from './cluster-view.ts';
import { withEndpointJoins } from './endpoint-join.ts';
import type { Leader, NodeUpdate } from './leader.ts';
import { admitNode } from './membership.ts';
import type { TaskReports } from './task-reports.ts';
import { put, remove, type Writer } from './writer.ts';

export interface NodeChangesOptions {
  store: Store;
  view: ClusterView;
  taskReports: TaskReports;
  writer: Writer;
  /** Runs alone, and resolves once what follows from it is decided. */
  change<T>(work: () => Promise<T>): Promise<T>;
  clock: Clock;
  log: Log;
}

/** Nodes that join, go down, are updated and removed. */
export function nodeChanges(
  options: NodeChangesOptions,
): Pick<Leader, 'updateNode' | 'removeNode' | 'registerNode' | 'markNodeDown'> {
  const { store, view, taskReports, writer, change, clock, log } = options;
  return {
    updateNode: (select, update) =>
      change(async () => {
        const node = updatedNode(select(), update, clock.now());
        await store.transact([put<Node>('nodes', node)]);
        log.info(
          { node: node.name, labels: node.labels, availability: node.availability },
          `node ${node.name} updated`,
        );
        return view.node(node.id)!;
      }),
    removeNode: (select, force) =>
      change(async () => {
        const node = select();
        if (node.state !== 'down' && !force) {
          throw new MeshError(
            'conflict',
            `node ${node.name} is up: stop its meshd first, or remove it with --force (a running agent then joins again as a new node)`,
          );
        }
        await store.transact([remove('nodes', node)]);
        log.warn({ node: node.name, force }, `node ${node.name} removed`);
        return node;
      }),
    registerNode: (hello, isConnected) =>
      writer.run(async () => {
        const admitted = admitNode(hello, view, isConnected, clock.now());
        const before = view.node(admitted.id);
        const isUnchanged =
          before !== undefined && sameValue({ ...before, updatedAt: 0 }, { ...admitted, updatedAt: 0 });
        // In one transaction: a node never counts as ready with the states that its tasks had before it was away.
        const statuses = taskReports.writes(admitted.id, hello.tasks);
        const writes = isUnchanged ? statuses : [put<Node>('nodes', admitted), ...statuses];
        if (writes.length > 0) await store.transact(withEndpointJoins(writes, view, clock.now()));
        return admitted;
      }),
    markNodeDown: (nodeId, isSilent, reason) =>
      writer.run(async () => {
        const node = view.node(nodeId);
        if (node === undefined || node.state === 'down' || !isSilent()) return;
        const now = clock.now();
        log.warn({ node: node.name }, `${node.name} is down: ${reason}`);
        await store.transact([put<Node>('nodes', { ...node, state: 'down', stateSince: now, updatedAt: now })]);
      }),
  };
}

/** Throws MeshError `not-found` for a label to remove that the node does not have, `invalid` for too many labels. */
function updatedNode(node: Node, { setLabels, removeLabels, availability }: NodeUpdate, now: number): Node {
  const labels = { ...node.labels, ...setLabels };
  for (const key of removeLabels) {
    if (labels[key] === undefined) throw new MeshError('not-found', `node ${node.name} has no label ${key}`);
    delete labels[key];
  }
  if (Object.keys(labels).length > LIMIT.entries) {
    throw new MeshError('invalid', `node ${node.name} would have more than ${LIMIT.entries} labels`);
  }
  return { ...node, labels, availability: availability ?? node.availability, updatedAt: now };
}

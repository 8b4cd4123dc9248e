import type { Network, Node, Task } from '../model/cluster.ts';

/** What a decision about one service reads of the rest of the cluster. */
export interface DecisionContext {
  /** Wall clock, ms. */
  now: number;
  /** The store revision that the writes of this decision will get. */
  nextRevision: number;
  nodes: readonly Node[];
  networks: readonly Network[];
  /** All tasks that have an address on this node, ended ones too. */
  tasksOn(nodeId: string): readonly Task[];
  /** Newest store revision whose effects the kernel of this node is known to hold. */
  acknowledged(nodeId: string): number;
  /**
   * Open connections to a task through real servers at weight 0, over all ready nodes; undefined while one of them has
   * not reported a count since it holds `revision`.
   */
  openConnections(taskId: string, revision: number): number | undefined;
  /** A new id: 12 characters of 0-9a-z, never used before. */
  newId(): string;
}

/** Whether every ready node has acknowledged `revision`. */
export function allAcknowledged(revision: number, context: DecisionContext): boolean {
  return context.nodes.every((node) => node.state !== 'ready' || context.acknowledged(node.id) >= revision);
}

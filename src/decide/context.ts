import type { Network, Node, Task } from '../model/cluster.ts';

/** What a decision about one service may know of the rest of the cluster. */
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
   * not counted since it holds `revision`.
   */
  openConnections(taskId: string, revision: number): number | undefined;
  /** A new id: 12 characters of 0-9a-z, never given before. */
  newId(): string;
}

/** Whether every ready node's kernel is known to hold what it was told with `revision`. */
export function allAcknowledged(revision: number, context: DecisionContext): boolean {
  return context.nodes.every((node) => node.state !== 'ready' || context.acknowledged(node.id) >= revision);
}

import type { AdmissionWarning } from '../../model/admission-warning.ts';
import type { Assignment } from '../../model/assignment.ts';
import type { Node, Service, TaskStatus } from '../../model/cluster.ts';
import type { ServiceSpec } from '../../model/spec.ts';
import type { Hello } from '../../rpc/messages.ts';

/**
 * Everything that changes the cluster, and all that the serving half knows of the leading one. Functions that are passed
 * in run alone: no other decision is made between what they read and what is committed. Errors are MeshErrors; those of
 * the functions passed in are passed on.
 */
export interface Leader {
  /** Stores specs, all of them or none; with `dryRun` it only checks them. Resolves when tasks and nodes follow. */
  applyServices(specs: () => readonly ServiceSpec[], dryRun: boolean): Promise<AdmittedService[]>;
  /** Removes services; each remains without new connections until its last task has ended. */
  removeServices(select: () => readonly Service[]): Promise<readonly Service[]>;
  /** What nodes would be assigned once these specs are stored and every task has followed. Changes nothing. */
  planServices(
    specs: readonly ServiceSpec[],
  ): Promise<{ admitted: AdmittedService[]; assignmentOf(node: Node): Assignment }>;
  updateNode(select: () => Node, change: NodeUpdate): Promise<Node>;
  /** `conflict` when the node is up and `force` is not given. */
  removeNode(select: () => Node, force: boolean): Promise<Node>;
  /** Stores the node of an agent that connects, with the states of its tasks. Errors as in membership.ts. */
  registerNode(hello: Hello, isConnected: (nodeId: string) => boolean): Promise<Node>;
  /** Stores that a ready node is down, unless `isSilent` no longer holds by then. */
  markNodeDown(nodeId: string, isSilent: () => boolean, reason: string): Promise<void>;
  /** Stores what an agent reported of its own tasks; retries until it is stored. */
  reportTasks(nodeId: string, reports: readonly { taskId: string; status: TaskStatus }[]): void;
  /** A node reported its conditions: stores which of them have an effect; retries until it is stored. */
  onConditions(nodeId: string): void;
  /** A node reported something that draining tasks may wait for. */
  onDrainProgress(): void;
}

export interface NodeUpdate {
  setLabels: Readonly<Record<string, string>>;
  removeLabels: readonly string[];
  availability?: Node['availability'];
}

/** What storing a spec changed, or would change. */
export interface AdmittedService {
  id: string;
  name: string;
  action: 'created' | 'updated' | 'unchanged';
  /** One line per change. */
  changes: string[];
  warnings: AdmissionWarning[];
}

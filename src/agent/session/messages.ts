import type { Assignment, AssignmentDelta } from '../../model/assignment.ts';
import type { Listener, PortCondition, TaskStatus } from '../../model/cluster.ts';
import type { Condition } from '../../model/condition.ts';

/*
 * What agent and manager send each other, in the types of the model. wire.ts converts it to the generated messages and
 * back; no other file of the agent's session knows those.
 */

export interface TaskStatusReport {
  taskId: string;
  status: TaskStatus;
}

/** What a node reports about itself when a session begins. */
export interface NodeIntroduction {
  name: string;
  /** Empty on first contact. */
  nodeId: string;
  underlay: string;
  labels: Record<string, string>;
  version: string;
  kernelRelease: string;
  role: 'manager' | 'worker';
  tasks: TaskStatusReport[];
}

/** Operations that would bring the kernel of a node to a desired state, rendered; or why they are unknown. */
export interface PlanResult {
  nodeId: string;
  nodeName: string;
  steps: string[];
  /** Empty when the steps are known. */
  error: string;
  /** Of the assignment that the kernel holds. */
  revision: number;
}

/** A part of the answer to a question; parts are sent in order. */
export interface AnswerChunk {
  body: Uint8Array;
  last: boolean;
  /** Empty unless the question could not be answered. */
  error: string;
}

export type AgentReport =
  | { kind: 'hello'; node: NodeIntroduction }
  | { kind: 'heartbeat' }
  | { kind: 'applied'; revision: number; failures: string[] }
  | { kind: 'tasks'; reports: TaskStatusReport[] }
  | { kind: 'connections'; revision: number; endpoints: { taskId: string; active: number }[] }
  | { kind: 'conditions'; conditions: readonly Condition[] }
  | { kind: 'listeners'; listeners: readonly Listener[] }
  | { kind: 'portConditions'; conditions: readonly PortCondition[] }
  | { kind: 'plan'; requestId: number; result: PlanResult }
  | { kind: 'answer'; questionId: number; chunk: AnswerChunk };

export interface WelcomeMessage {
  kind: 'welcome';
  clusterId: string;
  nodeId: string;
  heartbeatSeconds: number;
}

export type AssignmentMessage =
  | { kind: 'snapshot'; assignment: Assignment }
  | { kind: 'delta'; delta: AssignmentDelta }
  | { kind: 'planRequest'; requestId: number; assignment: Assignment | undefined }
  | { kind: 'question'; questionId: number; question: string; argument: string };

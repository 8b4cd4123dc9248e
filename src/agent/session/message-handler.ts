import { MeshError } from '../../base/errors.ts';
import type { Assignment } from '../../model/assignment.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import type { AgentReport, AssignmentMessage, PlanResult } from './messages.ts';
import { type NodeQueries, runQuery } from './node-queries.ts';

export interface MessageHandlerOptions {
  onSnapshot(assignment: Extract<AssignmentMessage, { kind: 'snapshot' }>['assignment']): void;
  onDelta(delta: Extract<AssignmentMessage, { kind: 'delta' }>['delta']): void;
  /** The desired kernel state that an assignment would mean on this node. */
  planFor(assignment: Assignment): ReadonlyMap<string, KernelObject>;
  /** The operations from the observed kernel state to a desired one. */
  comparePlan(desired: () => ReadonlyMap<string, KernelObject>): Promise<PlanResult>;
  queries: NodeQueries;
  send(report: AgentReport): void;
}

/** Passes assignments on, and answers requests. Throws MeshError when an assignment cannot be applied. */
export function createMessageHandler(options: MessageHandlerOptions): (message: AssignmentMessage) => void {
  async function answerPlanRequest(requestId: number, assignment: Assignment | undefined): Promise<void> {
    const result = await options.comparePlan(() => {
      if (assignment === undefined) throw new MeshError('invalid', 'the plan request has no assignment');
      return options.planFor(assignment);
    });
    options.send({ kind: 'plan', requestId, result });
  }

  async function answerQuestion(questionId: number, question: string, argument: string): Promise<void> {
    const chunks = await runQuery(options.queries, question, argument);
    for (const chunk of chunks) options.send({ kind: 'answer', questionId, chunk });
  }

  return (message) => {
    switch (message.kind) {
      case 'snapshot':
        options.onSnapshot(message.assignment);
        return;
      case 'delta':
        options.onDelta(message.delta);
        return;
      case 'planRequest':
        void answerPlanRequest(message.requestId, message.assignment);
        return;
      case 'question':
        void answerQuestion(message.questionId, message.question, message.argument);
    }
  };
}

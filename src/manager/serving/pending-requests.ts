import type { Clock } from '../../base/clock.ts';
import type { Assignment } from '../../model/assignment.ts';
import type { Answer, ManagerMessage, NodeAnswer, NodeDiff } from '../../rpc/messages.ts';

const DRY_RUN_TIMEOUT = 5_000;
/** To answer, a node may have to send packets to all others and wait for their replies. */
const RESPONSE_TIMEOUT = 30_000;
/** Bytes of one answer. */
const MAX_RESPONSE_BYTES = 32 * 1024 * 1024;

/** The receiver of a request; `send` is undefined while it is not connected. */
export interface RequestTarget {
  id: string;
  name: string;
  send: ((message: NonNullable<ManagerMessage['message']>) => void) | undefined;
}

/** Requests that nodes have not answered yet. */
export interface PendingRequests {
  /** The operations that would turn the node's kernel into this; `error`: why they are not known. */
  dryRun(node: RequestTarget, assignment: Assignment): Promise<NodeDiff>;
  /** `error`: why there is no answer. */
  request(node: RequestTarget, kind: string, argument: string): Promise<NodeAnswer>;
  onDryRunResult(nodeId: string, probeId: number, plan: NodeDiff): void;
  onResponse(nodeId: string, answer: Answer): void;
}

export function createPendingRequests(clock: Clock): PendingRequests {
  const dryRuns = createRequestTable<NodeDiff>(clock, DRY_RUN_TIMEOUT);
  const requests = createRequestTable<Answer>(clock, RESPONSE_TIMEOUT);
  return {
    dryRun(node, assignment) {
      const identity = { nodeId: node.id, nodeName: node.name };
      return dryRuns.send<NodeDiff>(node, {
        message: (probeId) => ({ case: 'probe', value: { probeId, assignment } }),
        failed: (error) => ({ ...identity, steps: [], error, revision: 0 }),
        onReply: (diff) => ({ ...diff, ...identity }),
      });
    },
    request(node, kind, argument) {
      const chunks: Uint8Array[] = [];
      let size = 0;
      const answer = (body: Uint8Array, error: string): NodeAnswer => ({
        nodeId: node.id,
        nodeName: node.name,
        body,
        error,
      });
      const failed = (error: string) => answer(new Uint8Array(), error);
      return requests.send<NodeAnswer>(node, {
        message: (questionId) => ({ case: 'question', value: { questionId, kind, argument } }),
        failed,
        onReply({ body, last, error }) {
          size += body.length;
          chunks.push(body);
          if (size > MAX_RESPONSE_BYTES)
            return failed(`the answer of ${node.name} is longer than ${MAX_RESPONSE_BYTES} bytes`);
          return last ? answer(Buffer.concat(chunks), error) : undefined;
        },
      });
    },
    onDryRunResult: dryRuns.onReply,
    onResponse: (nodeId, answer) => requests.onReply(nodeId, answer.questionId, answer),
  };
}

/** How one request is sent, and how it ends. */
interface RequestSteps<Reply, Result> {
  message(requestId: number): NonNullable<ManagerMessage['message']>;
  failed(error: string): Result;
  /** Undefined while more replies follow. */
  onReply(reply: Reply): Result | undefined;
}

/** Requests of one kind by number: each ends with replies of its own node, or after the timeout (ms). */
function createRequestTable<Reply>(clock: Clock, timeout: number) {
  const open = new Map<number, { nodeId: string; onReply(reply: Reply): void }>();
  let lastId = 0;
  return {
    send<Result>(node: RequestTarget, steps: RequestSteps<Reply, Result>): Promise<Result> {
      const { id: nodeId, name, send } = node;
      if (send === undefined) return Promise.resolve(steps.failed(`${name} is not connected`));
      lastId += 1;
      const requestId = lastId;
      return new Promise((resolve) => {
        const settle = (result: Result) => {
          open.delete(requestId);
          cancel();
          resolve(result);
        };
        const cancel = clock.after(timeout, () =>
          settle(steps.failed(`${name} did not answer within ${timeout / 1_000} s`)),
        );
        open.set(requestId, {
          nodeId,
          onReply(reply) {
            const result = steps.onReply(reply);
            if (result !== undefined) settle(result);
          },
        });
        send(steps.message(requestId));
      });
    },
    onReply(nodeId: string, requestId: number, reply: Reply): void {
      const request = open.get(requestId);
      if (request?.nodeId === nodeId) request.onReply(reply);
    },
  };
}

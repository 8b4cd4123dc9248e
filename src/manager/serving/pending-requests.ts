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
  const dryRuns = new Map<number, { nodeId: string; done(diff: NodeDiff): void }>();
  const requests = new Map<number, { nodeId: string; onPiece(answer: Answer): void }>();
  let lastDryRunId = 0;
  let lastRequestId = 0;
  return {
    dryRun({ id, name, send }, assignment) {
      const identity = { nodeId: id, nodeName: name };
      const failed = (error: string): NodeDiff => ({ ...identity, steps: [], error, revision: 0 });
      if (send === undefined) return Promise.resolve(failed(`${name} is not connected`));
      lastDryRunId += 1;
      const probeId = lastDryRunId;
      return new Promise((resolve) => {
        const done = (diff: NodeDiff) => {
          dryRuns.delete(probeId);
          cancel();
          resolve({ ...diff, ...identity });
        };
        const cancel = clock.after(DRY_RUN_TIMEOUT, () =>
          done(failed(`${name} did not answer within ${DRY_RUN_TIMEOUT / 1_000} s`)),
        );
        dryRuns.set(probeId, { nodeId: id, done });
        send({ case: 'probe', value: { probeId, assignment } });
      });
    },
    request({ id, name, send }, kind, argument) {
      const response = (body: Uint8Array, error: string): NodeAnswer => ({ nodeId: id, nodeName: name, body, error });
      const empty = new Uint8Array();
      if (send === undefined) return Promise.resolve(response(empty, `${name} is not connected`));
      lastRequestId += 1;
      const questionId = lastRequestId;
      return new Promise((resolve) => {
        const chunks: Uint8Array[] = [];
        let size = 0;
        const done = (body: Uint8Array, error: string) => {
          requests.delete(questionId);
          cancel();
          resolve(response(body, error));
        };
        const cancel = clock.after(RESPONSE_TIMEOUT, () =>
          done(empty, `${name} did not answer within ${RESPONSE_TIMEOUT / 1_000} s`),
        );
        requests.set(questionId, {
          nodeId: id,
          onPiece({ body, last, error }) {
            size += body.length;
            chunks.push(body);
            if (size > MAX_RESPONSE_BYTES)
              done(empty, `the answer of ${name} is longer than ${MAX_RESPONSE_BYTES} bytes`);
            else if (last) done(Buffer.concat(chunks), error);
          },
        });
        send({ case: 'question', value: { questionId, kind, argument } });
      });
    },
    onDryRunResult(nodeId, probeId, plan) {
      const pending = dryRuns.get(probeId);
      if (pending?.nodeId === nodeId) pending.done(plan);
    },
    onResponse(nodeId, answer) {
      const request = requests.get(answer.questionId);
      if (request?.nodeId === nodeId) request.onPiece(answer);
    },
  };
}

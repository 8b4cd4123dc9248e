import type { Clock } from '../base/clock.ts';
import { LIMIT } from '../model/limits.ts';
import { text } from '../rpc/check.ts';
import type { Answer, ManagerMessage, NodeAnswer, NodeDiff } from '../rpc/gen/mesh.ts';

const PROBE_TIMEOUT = 5_000;
/** A question may make a node send packets to all others and wait for them. */
const ANSWER_TIMEOUT = 30_000;
/** Bytes of one answer. */
const ANSWER_LIMIT = 32 * 1024 * 1024;

/** A node to be asked; `send` is undefined while it is not connected. */
export interface Asked {
  id: string;
  name: string;
  send: ((message: NonNullable<ManagerMessage['message']>) => void) | undefined;
}

/** What nodes were asked and have not answered yet. */
export interface Inquiries {
  /** What the node's kernel would go through to become this; `error` says why it cannot be told. */
  probe(
    node: Asked,
    assignment: Extract<ManagerMessage['message'], { $case: 'probe' }>['value']['assignment'],
  ): Promise<NodeDiff>;
  /** `error` says why there is no answer. */
  ask(node: Asked, kind: string, argument: string): Promise<NodeAnswer>;
  onPlan(nodeId: string, probeId: number, plan: NodeDiff): void;
  /** Throws MeshError `invalid`. */
  onAnswer(nodeId: string, answer: Answer): void;
}

export function createInquiries(clock: Clock): Inquiries {
  const probes = new Map<number, { nodeId: string; done(diff: NodeDiff): void }>();
  const questions = new Map<number, { nodeId: string; onPiece(answer: Answer): void }>();
  let lastProbe = 0;
  let lastQuestion = 0;
  return {
    probe({ id, name, send }, assignment) {
      const about = { nodeId: id, nodeName: name };
      const failed = (error: string): NodeDiff => ({ ...about, steps: [], error, revision: 0 });
      if (send === undefined) return Promise.resolve(failed(`${name} is not connected`));
      lastProbe += 1;
      const probeId = lastProbe;
      return new Promise((resolve) => {
        const done = (diff: NodeDiff) => {
          probes.delete(probeId);
          cancel();
          resolve({ ...diff, ...about });
        };
        const cancel = clock.after(PROBE_TIMEOUT, () =>
          done(failed(`${name} did not answer within ${PROBE_TIMEOUT / 1_000} s`)),
        );
        probes.set(probeId, { nodeId: id, done });
        send({ $case: 'probe', value: { probeId, assignment } });
      });
    },
    ask({ id, name, send }, kind, argument) {
      const said = (body: Uint8Array, error: string): NodeAnswer => ({ nodeId: id, nodeName: name, body, error });
      const nothing = new Uint8Array();
      if (send === undefined) return Promise.resolve(said(nothing, `${name} is not connected`));
      lastQuestion += 1;
      const questionId = lastQuestion;
      return new Promise((resolve) => {
        const pieces: Uint8Array[] = [];
        let size = 0;
        const done = (body: Uint8Array, error: string) => {
          questions.delete(questionId);
          cancel();
          resolve(said(body, error));
        };
        const cancel = clock.after(ANSWER_TIMEOUT, () =>
          done(nothing, `${name} did not answer within ${ANSWER_TIMEOUT / 1_000} s`),
        );
        questions.set(questionId, {
          nodeId: id,
          onPiece({ body, last, error }) {
            size += body.length;
            pieces.push(body);
            if (size > ANSWER_LIMIT) done(nothing, `the answer of ${name} is longer than ${ANSWER_LIMIT} bytes`);
            else if (last) done(Buffer.concat(pieces), text(error, 'answer.error', 4 * LIMIT.value));
          },
        });
        send({ $case: 'question', value: { questionId, kind, argument } });
      });
    },
    onPlan(nodeId, probeId, plan) {
      const waiting = probes.get(probeId);
      if (waiting?.nodeId === nodeId) waiting.done(plan);
    },
    onAnswer(nodeId, answer) {
      const asked = questions.get(answer.questionId);
      if (asked?.nodeId === nodeId) asked.onPiece(answer);
    },
  };
}

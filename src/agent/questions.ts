import { MeshError, messageOf } from '../base/errors.ts';
import type { Answer } from '../rpc/gen/mesh.ts';
import { boundedText } from './bounds.ts';

/** What a node can be asked by name; each answers plain data made for JSON. The argument is parsed JSON, unchecked. */
export type Questions = Record<string, (argument: unknown) => Promise<unknown>>;

/** Bytes of one piece; a message to the manager is bounded at 4 MiB. */
const PIECE = 1024 * 1024;

/** The answer in pieces, or one piece with the error. Never rejects. */
export async function answersOf(
  questions: Questions,
  kind: string,
  argument: string,
): Promise<Omit<Answer, 'questionId'>[]> {
  try {
    if (!Object.hasOwn(questions, kind)) {
      throw new MeshError(
        'unsupported',
        `this node's meshd does not know the question ${JSON.stringify(kind)}: upgrade it`,
      );
    }
    const body = Buffer.from(
      JSON.stringify(await questions[kind]!(argument === '' ? undefined : JSON.parse(argument))),
    );
    const count = Math.max(1, Math.ceil(body.length / PIECE));
    return Array.from({ length: count }, (_, index) => ({
      body: body.subarray(index * PIECE, (index + 1) * PIECE),
      last: index === count - 1,
      error: '',
    }));
  } catch (thrown) {
    return [{ body: new Uint8Array(), last: true, error: boundedText(messageOf(thrown)) }];
  }
}

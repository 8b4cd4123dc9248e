import { MeshError, messageOf } from '../../base/errors.ts';
import type { AnswerChunk } from './messages.ts';
import { truncateText } from './report-limits.ts';

/** The questions that a node answers, by name; each returns plain data for JSON. The argument is parsed JSON, unchecked. */
export type NodeQueries = Record<string, (argument: unknown) => Promise<unknown>>;

/** Bytes of one chunk; a message to the manager is bounded at 4 MiB. */
const CHUNK_SIZE = 1024 * 1024;
/** Bytes of an answer that a manager accepts. */
const MAX_ANSWER = 32 * CHUNK_SIZE;

/** The answer in chunks, or one chunk with the error. Never rejects. */
export async function runQuery(queries: NodeQueries, kind: string, argument: string): Promise<AnswerChunk[]> {
  try {
    if (!Object.hasOwn(queries, kind)) {
      throw new MeshError(
        'unsupported',
        `this node's meshd does not support the question ${JSON.stringify(kind)}; upgrade it`,
      );
    }
    const body = Buffer.from(JSON.stringify(await queries[kind]!(argument === '' ? undefined : JSON.parse(argument))));
    if (body.length > MAX_ANSWER)
      throw new MeshError('exhausted', `the answer has ${body.length} bytes, more than ${MAX_ANSWER}`);
    const count = Math.max(1, Math.ceil(body.length / CHUNK_SIZE));
    return Array.from({ length: count }, (_, index) => ({
      body: body.subarray(index * CHUNK_SIZE, (index + 1) * CHUNK_SIZE),
      last: index === count - 1,
      error: '',
    }));
  } catch (thrown) {
    return [{ body: new Uint8Array(), last: true, error: truncateText(messageOf(thrown)) }];
  }
}

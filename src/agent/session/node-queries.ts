import { MeshError, messageOf } from '../../base/errors.ts';
import type { Answer } from '../../rpc/messages.ts';
import { truncateText } from './report-limits.ts';

/** What a node can be asked by name; each answers plain data made for JSON. The argument is parsed JSON, unchecked. */
export type NodeQueries = Record<string, (argument: unknown) => Promise<unknown>>;

/** Bytes of one piece; a message to the manager is bounded at 4 MiB. */
const CHUNK_SIZE = 1024 * 1024;

/** The answer in pieces, or one piece with the error. Never rejects. */
export async function runQuery(
  queries: NodeQueries,
  kind: string,
  argument: string,
): Promise<Omit<Answer, 'questionId'>[]> {
  try {
    if (!Object.hasOwn(queries, kind)) {
      throw new MeshError(
        'unsupported',
        `this node's meshd does not know the question ${JSON.stringify(kind)}: upgrade it`,
      );
    }
    const body = Buffer.from(JSON.stringify(await queries[kind]!(argument === '' ? undefined : JSON.parse(argument))));
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

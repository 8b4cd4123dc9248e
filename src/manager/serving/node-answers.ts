import { MeshError } from '../../base/errors.ts';
import type { Node } from '../../model/cluster.ts';
import type { DoctorReport } from '../../model/doctor.ts';
import {
  parseConnectionRoutes,
  parseDoctorReport,
  parseKernelAnswer as parseKernelObjects,
  unreadableAnswer,
} from '../../model/node-answers.ts';
import type { ConnectionRoutes } from '../../model/route-lookup.ts';
import { stateFromObjects } from '../../model/state-json.ts';
import type { NodeAnswer } from '../../rpc/messages.ts';
import type { NodeState } from '../../trace/packet.ts';

/*
 * Answers of agents, which may be of another version: an answer that cannot be read is an error of its node alone. The
 * size of an answer is bounded where it is received (pending-requests.ts).
 */

/** Asks agents; `error` of an answer: why there is none. */
export type AskNodes = (nodes: readonly Node[], kind: string, argument: string) => Promise<NodeAnswer[]>;

/** What a node answered, or why there is nothing to read. */
export type Parsed<T> = { value: T } | { error: string };

/** The kernel objects of a node. */
export function parseKernelAnswer(answer: NodeAnswer): Parsed<NodeState> {
  return parse(answer, (body) => {
    const { revision, addresses, objects, sockets } = parseKernelObjects(body);
    const state = stateFromObjects(objects);
    if (!state.ok) throw unreadableAnswer(state.error.message);
    const { nodeId, nodeName: name } = answer;
    return { nodeId, name, revision, addresses, state: state.value, ...(sockets === undefined ? {} : { sockets }) };
  });
}

export function parseRoutesAnswer(answer: NodeAnswer): Parsed<ConnectionRoutes> {
  return parse(answer, parseConnectionRoutes);
}

export function parseDoctorAnswer(answer: NodeAnswer): Parsed<DoctorReport> {
  return parse(answer, parseDoctorReport);
}

function parse<T>({ body, error }: NodeAnswer, read: (body: Uint8Array) => T): Parsed<T> {
  if (error !== '') return { error };
  try {
    return { value: read(body) };
  } catch (thrown) {
    if (!(thrown instanceof MeshError)) throw thrown;
    return { error: thrown.message };
  }
}

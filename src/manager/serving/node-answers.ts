import { z } from 'zod';
import type { DoctorReport } from '../../model/doctor.ts';
import { stateFromJson } from '../../model/state-json.ts';
import type { NodeAnswer } from '../../rpc/messages.ts';
import type { NodeState } from '../../trace/packet.ts';

/*
 * Answers of agents, which may be of another version: fields that are not known here are ignored, and an answer that
 * cannot be read is an error of its node alone. Their size is bounded where they are received (pending-requests.ts).
 */

/** Text of an answer; what is longer was not written by an agent. */
const text = z.string().max(10_000);
const count = z.number().int().nonnegative();
const milliseconds = z.number().nonnegative();

const kernelAnswer = z.object({ revision: count, addresses: z.array(text), objects: z.array(z.unknown()) });

const doctorReport: z.ZodType<DoctorReport> = z.object({
  now: z.number(),
  took: milliseconds,
  version: text,
  overlayMtu: count.exactOptional(),
  findings: z.array(
    z.object({ level: z.enum(['ok', 'warning', 'error']), code: text, params: z.record(z.string(), text) }),
  ),
  echoes: z.array(
    z.object({
      nodeId: text,
      underlay: text,
      small: milliseconds.exactOptional(),
      full: milliseconds.exactOptional(),
    }),
  ),
});

/** What a node answered, or why there is nothing to read. */
export type Parsed<T> = { value: T } | { error: string };

/** The kernel objects of a node. */
export function parseKernelAnswer(answer: NodeAnswer): Parsed<NodeState> {
  const parsed = parse(answer, kernelAnswer);
  if ('error' in parsed) return parsed;
  const { revision, addresses, objects } = parsed.value;
  const state = stateFromJson(JSON.stringify(objects));
  if (!state.ok) return { error: unreadable(state.error.message) };
  return { value: { nodeId: answer.nodeId, name: answer.nodeName, revision, addresses, state: state.value } };
}

export function parseDoctorAnswer(answer: NodeAnswer): Parsed<DoctorReport> {
  return parse(answer, doctorReport);
}

function parse<T>({ body, error }: NodeAnswer, schema: z.ZodType<T>): Parsed<T> {
  if (error !== '') return { error };
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(body).toString('utf8'));
  } catch {
    return { error: unreadable('it is not JSON') };
  }
  const result = schema.safeParse(json);
  if (result.success) return { value: result.data };
  const [issue] = result.error.issues;
  return { error: unreadable(`${issue?.path.join('.')}: ${issue?.message}`) };
}

function unreadable(reason: string): string {
  return `its answer cannot be read (${reason}); install the same version of meshd on all nodes`;
}

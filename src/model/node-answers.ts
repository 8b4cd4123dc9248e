import ipaddr from 'ipaddr.js';
import * as z from 'zod';
import { MeshError } from '../base/errors.ts';
import type { TaskSocket } from './bound-socket.ts';
import type { ChangeRecord, HistoryQuery, HistoryResult } from './change-record.ts';
import type { DoctorReport } from './doctor.ts';
import type { ConnectionRoutes, RouteResult } from './route-lookup.ts';

/*
 * Schemas of what nodes are asked by kind, and of what they answer, as JSON. Both sides check what arrives: an agent of
 * another version, or a damaged one, is an error of that node alone. Unknown fields are ignored, sizes are bounded.
 */

/** Characters of one text in an answer. */
const text = z.string().max(64 * 1024);
const number = z.number().finite();
const count = z.number().int().nonnegative();
const milliseconds = z.number().nonnegative();
const texts = z.array(text).max(10_000);

const codedParams = z.record(z.string().max(64), text);

const doctorReport = z.object({
  now: number,
  took: milliseconds,
  version: text,
  findings: z
    .array(z.object({ level: z.enum(['ok', 'warning', 'error']), code: z.string().max(64), params: codedParams }))
    .max(100_000),
  overlayMtu: count.optional(),
  echoes: z
    .array(z.object({ nodeId: text, underlay: text, small: milliseconds.optional(), full: milliseconds.optional() }))
    .max(100_000),
}) satisfies z.ZodType<DoctorReport>;

/** Milliseconds since 1970, in the range of a Date. */
const time = z.number().min(0).max(8.64e15);

const changeRecord = z.object({
  at: time,
  took: number,
  why: z.enum(['start', 'assignment', 'repair', 'retry', 'reset']),
  revision: count,
  wrong: texts,
  by: texts,
  services: texts,
  steps: texts,
  count,
  failures: texts,
}) satisfies z.ZodType<ChangeRecord>;

const historyResult = z.object({ changes: z.array(changeRecord).max(100_000) }) satisfies z.ZodType<HistoryResult>;

/** What a node answers to `kernel`: its kernel objects; each is checked by state-json.ts. */
export interface KernelAnswer {
  /** Revision of the assignment that the kernel holds. */
  revision: number;
  /** Every address of the host netns. */
  addresses: string[];
  objects: unknown[];
  /** Sockets of the node's tasks that serve the port of the question; missing in answers of older agents. */
  sockets?: TaskSocket[];
}

const protocol = z.enum(['tcp', 'udp', 'sctp']);
const port = z.number().int().min(1).max(65_535);

const kernelAnswer = z.object({
  revision: count,
  addresses: texts,
  objects: z.array(z.unknown()).max(10_000_000),
  sockets: z
    .array(z.object({ taskId: text, protocol, port, address: text, v6only: z.literal(true).exactOptional() }))
    .max(100_000)
    .exactOptional(),
}) satisfies z.ZodType<KernelAnswer>;

const route = z.union([
  z.object({ error: text }),
  z.object({ link: text, via: text.exactOptional(), table: count }),
]) satisfies z.ZodType<RouteResult>;
const connectionRoutes = z.object({ own: route, answer: route, request: route }) satisfies z.ZodType<ConnectionRoutes>;

const address = z.string().refine((value) => ipaddr.isValid(value));
const connectionQuestion = z.strictObject({
  client: address,
  called: address,
  protocol: z.enum(['tcp', 'udp', 'sctp']),
  published: z.number().int().min(1).max(65_535),
});

/** A connection to a published port whose ways through the host are asked for. */
type ConnectionQuestion = z.infer<typeof connectionQuestion>;

const historyQuery = z.strictObject({
  age: milliseconds.optional(),
  service: text.optional(),
  limit: z.number().int().positive().optional(),
}) satisfies z.ZodType<{ [Field in keyof HistoryQuery]: HistoryQuery[Field] | undefined }>;

const portFilter = z.strictObject({
  protocol,
  published: port,
  /** Services that offer the port, each with its target: the sockets of their tasks are requested, too. */
  targets: z
    .array(z.object({ serviceId: text, port }))
    .max(1_024)
    .exactOptional(),
});

/** Narrows the question `kernel` to what matters for one published port. */
export type PortFilter = z.infer<typeof portFilter>;

/** Each throws MeshError `invalid` with the place of the first fault. */
export const parseDoctorReport = (body: Uint8Array): DoctorReport => parseBody(doctorReport, body);
export const parseHistoryResult = (body: Uint8Array): HistoryResult => parseBody(historyResult, body);
export const parseConnectionRoutes = (body: Uint8Array): ConnectionRoutes => parseBody(connectionRoutes, body);
export const parseKernelAnswer = (body: Uint8Array): KernelAnswer => parseBody(kernelAnswer, body);

/** `argument` is parsed JSON, undefined for a question without one. */
export const parseHistoryQuery = (argument: unknown) => parse(historyQuery, argument ?? {}, 'the question');
export const parseConnectionQuestion = (argument: unknown): ConnectionQuestion =>
  parse(connectionQuestion, argument, 'the question');
export const parsePortFilter = (argument: unknown): PortFilter | undefined =>
  argument === undefined ? undefined : parse(portFilter, argument, 'the question');

/** One line of the history on disk; undefined when it is damaged. */
export function parseChangeRecord(line: string): ChangeRecord | undefined {
  try {
    return parse(changeRecord, JSON.parse(line), 'the record');
  } catch {
    return undefined;
  }
}

function parseBody<T>(schema: z.ZodType<T>, body: Uint8Array): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(body));
  } catch (cause) {
    throw unreadableAnswer('it is not JSON', cause);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw unreadableAnswer(firstFault(result.error));
}

/** An answer of a node of another version, or a damaged one. */
export function unreadableAnswer(reason: string, cause?: unknown): MeshError {
  const message = `its answer cannot be read (${reason}); install the same version of meshd on all nodes`;
  return new MeshError('invalid', message, { cause });
}

function firstFault(error: z.ZodError): string {
  const [fault] = error.issues;
  return [...(fault?.path.length ? [fault.path.join('.')] : []), fault?.message ?? ''].join(': ');
}

function parse<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new MeshError('invalid', `${what} is malformed: ${firstFault(result.error)}`);
}

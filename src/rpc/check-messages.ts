import * as z from 'zod';
import type { TaskStatus } from '../model/cluster.ts';
import { LIMIT } from '../model/limits.ts';
import { assignment, assignmentDelta } from './check-assignment.ts';
import { portSpec, protocol, serviceSpec } from './check-spec.ts';
import {
  address,
  bytes,
  count,
  flag,
  id,
  integer,
  labelKey,
  labels,
  list,
  name,
  port,
  text,
  time,
  word,
} from './check-values.ts';
import type { Control, Local } from './gen/mesh_pb.js';
import type { AgentMessage, Answer, ManagerMessage, NodeDiff } from './messages.ts';
import type { Input } from './service.ts';

/* What a server receives. Typed by the schema: a call or a field without its check does not compile. */

type Checks<S extends { method: object }> = { [K in keyof S['method']]: z.ZodType<Input<S['method'][K]>> };

/** Services, targets or nodes in one request. */
const MANY = 10_000;
/** A name, an id or the beginning of one: what does not exist is reported as such. */
const reference = text(LIMIT.value);
const nothing = z.object({});
const services = list(serviceSpec, MANY);
const replicas = integer(0, LIMIT.replicas);

export const controlChecks: Checks<typeof Control> = {
  apply: z.object({ services, dryRun: flag }),
  scale: z.object({ targets: list(z.object({ service: reference, replicas }), MANY) }),
  removeServices: z.object({ services: list(reference, MANY) }),
  listServices: nothing,
  listTasks: z.object({
    service: reference.exactOptional(),
    node: reference.exactOptional(),
    includeEnded: flag,
  }),
  listNodes: nothing,
  updateNode: z.object({
    node: reference,
    setLabels: labels,
    removeLabels: list(labelKey, LIMIT.entries),
    availability: word(['active', 'pause', 'drain']).exactOptional(),
  }),
  removeNode: z.object({ node: reference, force: flag }),
  watch: z.object({ services: flag, tasks: flag, nodes: flag }),
  plan: z.object({ services }),
  status: nothing,
  ask: z.object({ nodes: list(reference, MANY), kind: text(LIMIT.name), argument: text(LIMIT.argument) }),
  trace: z.object({ client: reference, node: reference, protocol, port }),
  doctor: z.object({ nodes: list(reference, MANY) }),
  listPorts: nothing,
  updateService: z.object({
    service: reference,
    force: flag,
    publishAdd: list(portSpec, LIMIT.ports),
    publishRemove: list(portSpec, LIMIT.ports),
    replicas: replicas.exactOptional(),
  }),
};

export const localChecks: Checks<typeof Local> = { info: nothing, diff: nothing };

/** Texts for people that nodes report. */
const note = text(4 * LIMIT.value);
/** Entries of one report; the message size is the other bound. */
const REPORTED = 100_000;
/** Conditions, listeners and the like of one node. */
const FEW = 4_096;
const pid = integer(0, 0x7fffffff);

const taskStatus: z.ZodType<TaskStatus> = z.object(
  {
    state: word(['new', 'pending', 'assigned', 'starting', 'running', 'complete', 'shutdown', 'failed', 'orphaned']),
    message: note,
    error: note,
    pid: pid.exactOptional(),
    exitCode: integer(-255, 65_535).exactOptional(),
    health: word(['starting', 'healthy', 'unhealthy']).exactOptional(),
    ports: list(z.object({ protocol, target: port, published: port }), LIMIT.ports).exactOptional(),
    missing: list(
      z.object({ protocol, target: port, family: word(['inet', 'inet6']) }),
      2 * LIMIT.ports,
    ).exactOptional(),
    since: time,
    reason: text(LIMIT.name).exactOptional(),
  },
  { error: 'is missing' },
);
const tasks = list(z.object({ taskId: id, status: taskStatus }), REPORTED);

/** A reply that cannot be read is an error for its request alone and does not end the session. */
const nodeDiff: z.ZodType<NodeDiff> = z
  .object({
    nodeId: text(LIMIT.name),
    nodeName: text(LIMIT.name),
    steps: list(note, REPORTED),
    error: note,
    revision: count,
  })
  .catch({ nodeId: '', nodeName: '', steps: [], error: 'its answer cannot be read', revision: 0 });
const answer: z.ZodType<Answer> = z.object({
  questionId: count,
  body: bytes,
  last: flag,
  error: note.catch('its answer cannot be read'),
});

/** A code of src/model/condition.ts, or of a newer agent. */
const condition = z.object({ code: text(LIMIT.name), params: z.record(text(LIMIT.name), note) });

const one = <C extends string, V>(kind: C, value: z.ZodType<V>) => z.object({ case: z.literal(kind), value });
/** The first hundred entries of a list; the rest is left out. */
const hundred = z.array(z.unknown()).transform((all) => all.slice(0, 100) as unknown);

/** A `message` that this version does not know is undefined. */
export const agentMessage: z.ZodType<AgentMessage> = z.object({
  message: z
    .discriminatedUnion('case', [
      one(
        'hello',
        z.object({
          name,
          nodeId: text(LIMIT.name),
          underlay: address.refine((value) => !/^(127\.|0\.|22[4-9]\.|23\d\.|255\.|::1?$)/.test(value), {
            error: ({ input }) => `${input} cannot be reached by other nodes: start the agent with --advertise ADDRESS`,
          }),
          labels,
          version: text(LIMIT.value),
          kernelRelease: text(LIMIT.value),
          role: word(['manager', 'worker']),
          tasks,
        }),
      ),
      one('ack', z.object({ revision: count, failures: hundred.pipe(list(note, 100)) })),
      one('tasks', z.object({ tasks })),
      one('heartbeat', nothing),
      one(
        'connections',
        z.object({
          revision: count,
          endpoints: list(z.object({ taskId: id, active: count }), REPORTED),
        }),
      ),
      one('plan', nodeDiff),
      one('conditions', z.object({ conditions: hundred.pipe(list(condition, 100)) })),
      one(
        'listeners',
        z.object({
          listeners: list(
            z.object({
              protocol,
              port,
              address,
              pid: pid.exactOptional(),
              process: text(LIMIT.value).exactOptional(),
              protected: z.literal(true).exactOptional(),
            }),
            FEW,
          ),
        }),
      ),
      one(
        'portConditions',
        z.object({
          conditions: list(
            z.object({
              protocol,
              published: port,
              kind: word(['taken', 'withheld', 'fallback', 'family']),
              message: text(LIMIT.value),
            }),
            FEW,
          ),
        }),
      ),
      one('answer', answer),
    ])
    .or(z.undefined()),
  probeId: count,
});

/** As agentMessage, at the agent. */
export const managerMessage: z.ZodType<ManagerMessage> = z.object({
  message: z
    .discriminatedUnion('case', [
      one('welcome', z.object({ nodeId: id, heartbeatSeconds: integer(0, 3_600), clusterId: text(LIMIT.name) })),
      one('snapshot', assignment),
      one('delta', assignmentDelta),
      one('probe', z.object({ probeId: count, assignment: assignment.exactOptional() })),
      one('question', z.object({ questionId: count, kind: text(LIMIT.name), argument: text(LIMIT.argument) })),
    ])
    .or(z.undefined()),
});

import type { Listener, Node, PortCondition, Service, Task, TaskState, TaskStatus } from '../model/cluster.ts';
import type { Condition } from '../model/condition.ts';
import { LIMIT } from '../model/limits.ts';
import { address, id, integer, invalid, list, port, record, text, word } from './check.ts';
import { PROTOCOLS, portSpecToWire, specToWire } from './convert-spec.ts';
import type * as wire from './gen/mesh.ts';

const STATES: readonly TaskState[] = [
  'new',
  'pending',
  'assigned',
  'starting',
  'running',
  'complete',
  'shutdown',
  'failed',
  'orphaned',
];

export function statusToWire(status: TaskStatus): wire.TaskStatus {
  return { ...status, ports: status.ports ?? [] };
}

/** A task's status as an agent reports it, checked; throws MeshError `invalid`. */
export function statusFromWire(message: wire.TaskStatus | undefined, where = 'status'): TaskStatus {
  if (message === undefined) throw invalid(where, 'is missing');
  return {
    state: word(message.state, `${where}.state`, STATES),
    message: text(message.message, `${where}.message`, 4 * LIMIT.value),
    error: text(message.error, `${where}.error`, 4 * LIMIT.value),
    ...(message.pid === undefined ? {} : { pid: integer(message.pid, `${where}.pid`, 0, 0x7fffffff) }),
    ...(message.exitCode === undefined
      ? {}
      : { exitCode: integer(message.exitCode, `${where}.exit_code`, -255, 65_535) }),
    ...(message.health === undefined
      ? {}
      : { health: word(message.health, `${where}.health`, ['starting', 'healthy', 'unhealthy']) }),
    ...(message.ports.length === 0
      ? {}
      : {
          ports: list(message.ports, `${where}.ports`, LIMIT.ports, (picked, path) => ({
            protocol: word(picked.protocol, `${path}.protocol`, PROTOCOLS),
            target: port(picked.target, `${path}.target`),
            published: port(picked.published, `${path}.published`),
          })),
        }),
    since: integer(message.since, `${where}.since`, 0, Number.MAX_SAFE_INTEGER),
    ...(message.reason === undefined ? {} : { reason: text(message.reason, `${where}.reason`, LIMIT.name) }),
  };
}

/** As statusFromWire. */
export function listenerFromWire(message: wire.Listener, where: string): Listener {
  return {
    protocol: word(message.protocol, `${where}.protocol`, PROTOCOLS),
    port: port(message.port, `${where}.port`),
    address: address(message.address, `${where}.address`),
    ...(message.pid === undefined ? {} : { pid: integer(message.pid, `${where}.pid`, 0, 0x7fffffff) }),
    ...(message.process === undefined ? {} : { process: text(message.process, `${where}.process`, LIMIT.value) }),
  };
}

/** As statusFromWire. */
export function portConditionFromWire(message: wire.PortCondition, where: string): PortCondition {
  return {
    protocol: word(message.protocol, `${where}.protocol`, PROTOCOLS),
    published: port(message.published, `${where}.published`),
    kind: word(message.kind, `${where}.kind`, ['taken', 'withheld', 'fallback']),
    message: text(message.message, `${where}.message`, LIMIT.value),
  };
}

/** As statusFromWire. */
export function conditionFromWire(message: wire.Condition, where: string): Condition {
  return {
    code: id(message.code, `${where}.code`),
    params: record(message.params, `${where}.params`, id, LIMIT.value),
  };
}

export interface TaskStatusReport {
  taskId: string;
  status: TaskStatus;
}

export function taskReportToWire(report: TaskStatusReport): wire.TaskStatusReport {
  return { taskId: report.taskId, status: statusToWire(report.status) };
}

/** As statusFromWire. */
export function taskReportFromWire(message: wire.TaskStatusReport, where = 'report'): TaskStatusReport {
  return { taskId: id(message.taskId, `${where}.task_id`), status: statusFromWire(message.status, `${where}.status`) };
}

export function serviceToWire(
  service: Service,
  seen: { running: number; desired: number; degraded: wire.NodePortCondition[] },
): wire.Service {
  return {
    ...stored(service),
    name: service.name,
    spec: specToWire(service.spec),
    taskGeneration: service.taskGeneration,
    ...seen,
  };
}

export function taskToWire(task: Task, nodeName: string): wire.Task {
  return {
    ...stored(task),
    serviceId: task.serviceId,
    serviceName: task.serviceName,
    slot: task.slot,
    nodeId: task.nodeId,
    nodeName,
    addresses: task.addresses,
    desired: task.desired,
    status: statusToWire(task.status),
    restarts: task.restarts,
    command: task.spec.command,
    ports: task.spec.ports.map(portSpecToWire),
    generation: task.generation,
  };
}

export function nodeToWire(
  node: Node,
  seen: { acknowledgedRevision: number; tasksRunning: number; conditions: string[] },
): wire.Node {
  return {
    ...stored(node),
    name: node.name,
    number: node.number,
    role: node.role,
    labels: node.labels,
    availability: node.availability,
    underlay: node.underlay,
    state: node.state,
    stateSince: node.stateSince,
    agentVersion: node.agentVersion,
    kernelRelease: node.kernelRelease,
    ...seen,
  };
}

function stored<T extends { id: string; version: number; createdAt: number; updatedAt: number }>(object: T) {
  return { id: object.id, version: object.version, createdAt: object.createdAt, updatedAt: object.updatedAt };
}

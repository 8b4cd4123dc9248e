import { LIMIT } from '../model/limits.ts';
import type { Constraint, PortSpec, RestartPolicy, ServiceSpec } from '../model/spec.ts';
import { environmentKey, integer, invalid, labelKey, list, name, port, record, text, word } from './check.ts';
import type * as wire from './gen/mesh.ts';

export const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;
export const PORT_MODES = ['ingress', 'host'] as const;

/** The model's spec as it travels. */
export function specToWire(spec: ServiceSpec): wire.ServiceSpec {
  return {
    ...spec,
    user: spec.user,
    restart: { ...spec.restart, delay: spec.restart.delay },
    ports: spec.ports.map(portSpecToWire),
  };
}

export function portSpecToWire(spec: PortSpec): wire.PortSpec {
  return { ...spec, published: spec.published };
}

/** A spec from outside, checked field by field; throws MeshError `invalid` naming the field. */
export function specFromWire(message: wire.ServiceSpec, where = 'service'): ServiceSpec {
  const serviceName = name(message.name, `${where}.name`);
  const at = `service ${serviceName}`;
  if (message.command.length === 0) throw invalid(`${at}.command`, 'is empty: say what to run');
  if (message.restart === undefined) throw invalid(`${at}.restart`, 'is missing');
  return {
    name: serviceName,
    labels: record(message.labels, `${at}.labels`, labelKey, LIMIT.value),
    runtime: word(message.runtime, `${at}.runtime`, ['process']),
    command: list(message.command, `${at}.command`, LIMIT.arguments, (value, path) =>
      text(value, path, LIMIT.argument),
    ),
    workingDir: directory(message.workingDir, `${at}.working_dir`),
    ...(message.user === undefined ? {} : { user: user(message.user, `${at}.user`) }),
    environment: record(message.environment, `${at}.environment`, environmentKey, LIMIT.argument),
    mode: word(message.mode, `${at}.mode`, ['replicated', 'global']),
    replicas: integer(message.replicas, `${at}.replicas`, 0, LIMIT.replicas),
    constraints: list(message.constraints, `${at}.constraints`, LIMIT.constraints, constraint),
    restart: restart(message.restart, `${at}.restart`),
    stopGracePeriod: integer(message.stopGracePeriod, `${at}.stop_grace_period`, 0, LIMIT.duration),
    ports: list(message.ports, `${at}.ports`, LIMIT.ports, portSpecFromWire),
  };
}

export function directory(value: string, where: string): string {
  if (!value.startsWith('/')) throw invalid(where, 'is not an absolute path');
  return text(value, where, 4_095);
}

export function user(value: string, where: string): string {
  if (value === '') throw invalid(where, 'is empty');
  return text(value, where, LIMIT.value);
}

function constraint(message: wire.Constraint, where: string): Constraint {
  return {
    key: text(message.key, `${where}.key`, LIMIT.value),
    operator: word(message.operator, `${where}.operator`, ['==', '!=']),
    value: text(message.value, `${where}.value`, LIMIT.value),
  };
}

function restart(message: wire.RestartPolicy, where: string): RestartPolicy {
  return {
    condition: word(message.condition, `${where}.condition`, ['any', 'on-failure', 'none']),
    ...(message.delay === undefined ? {} : { delay: integer(message.delay, `${where}.delay`, 0, LIMIT.duration) }),
    maxAttempts: integer(message.maxAttempts, `${where}.max_attempts`, 0, 0xffffffff),
    window: integer(message.window, `${where}.window`, 0, LIMIT.duration),
  };
}

function portSpecFromWire(message: wire.PortSpec, where: string): PortSpec {
  return {
    protocol: word(message.protocol, `${where}.protocol`, PROTOCOLS),
    target: port(message.target, `${where}.target`),
    ...(message.published === undefined ? {} : { published: port(message.published, `${where}.published`) }),
    mode: word(message.mode, `${where}.mode`, PORT_MODES),
  };
}

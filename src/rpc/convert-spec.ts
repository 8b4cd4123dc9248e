import { CAPABILITY_NAMES, type RequestedPrivileges } from '../model/capabilities.ts';
import { LIMIT } from '../model/limits.ts';
import {
  type Constraint,
  type HealthCheck,
  type HealthProbe,
  type Persistence,
  type PortSpec,
  type RestartPolicy,
  SCHEDULER_FLAGS,
  SCHEDULERS,
  type ServiceSpec,
  TRAFFIC_POLICIES,
  type UpdateConfig,
  type WeightSpec,
} from '../model/spec.ts';
import { environmentKey, integer, invalid, labelKey, list, name, network, port, record, text, word } from './check.ts';
import type * as wire from './gen/mesh.ts';

export const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;
export const PORT_MODES = ['ingress', 'host'] as const;

/** The model's spec as it travels. */
export function specToWire(spec: ServiceSpec): wire.ServiceSpec {
  return {
    ...spec,
    capAdd: spec.capAdd ?? [],
    capDrop: spec.capDrop ?? [],
    restart: { ...spec.restart },
    ports: spec.ports.map(portSpecToWire),
    health: spec.health && healthToWire(spec.health),
    weight: spec.weight && { ...spec.weight },
  };
}

export function portSpecToWire(spec: PortSpec): wire.PortSpec {
  const { schedulerFlags = [], nodes = [], addresses = [], allowFrom = [] } = spec;
  const persistence = spec.persistence && persistenceToWire(spec.persistence);
  return { ...spec, schedulerFlags, persistence, nodes, addresses, allowFrom };
}

export function persistenceToWire({ timeout, prefix }: Persistence): wire.Persistence {
  return { timeout, prefixInet: prefix.inet, prefixInet6: prefix.inet6 };
}

export function healthToWire({ probe, ...times }: HealthCheck): wire.HealthCheck {
  const { kind } = probe;
  switch (kind) {
    case 'command':
      return { ...times, kind, command: probe.command };
    case 'shell':
      return { ...times, kind, command: [probe.command] };
    case 'tcp':
      return { ...times, kind, command: [], port: probe.port };
    case 'http':
      return { ...times, kind, command: [probe.path], port: probe.port };
  }
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
    ...privilegesFromWire(message, at),
    environment: record(message.environment, `${at}.environment`, environmentKey, LIMIT.argument),
    mode: word(message.mode, `${at}.mode`, ['replicated', 'global']),
    replicas: integer(message.replicas, `${at}.replicas`, 0, LIMIT.replicas),
    constraints: list(message.constraints, `${at}.constraints`, LIMIT.constraints, constraint),
    restart: restart(message.restart, `${at}.restart`),
    stopGracePeriod: integer(message.stopGracePeriod, `${at}.stop_grace_period`, 0, LIMIT.duration),
    ports: list(message.ports, `${at}.ports`, LIMIT.ports, portSpecFromWire),
    ...(message.update === undefined ? {} : { update: update(message.update, `${at}.update`) }),
    ...(message.health === undefined ? {} : { health: healthFromWire(message.health, `${at}.health`) }),
    ...(message.weight === undefined ? {} : { weight: weight(message.weight, `${at}.weight`) }),
    ...(message.forced === undefined ? {} : { forced: integer(message.forced, `${at}.forced`, 0, 0xffffffff) }),
  };
}

function update(message: wire.UpdateConfig, where: string): UpdateConfig {
  return {
    parallelism: integer(message.parallelism, `${where}.parallelism`, 0, LIMIT.replicas),
    delay: integer(message.delay, `${where}.delay`, 0, LIMIT.duration),
    order: word(message.order, `${where}.order`, ['start-first', 'stop-first']),
  };
}

/** As specFromWire. */
export function healthFromWire(message: wire.HealthCheck, where: string): HealthCheck {
  const time = (value: number, what: string, from: number) => integer(value, `${where}.${what}`, from, LIMIT.duration);
  return {
    probe: probe(message, where),
    interval: time(message.interval, 'interval', 1),
    timeout: time(message.timeout, 'timeout', 1),
    retries: integer(message.retries, `${where}.retries`, 1, 1_000_000),
    startPeriod: time(message.startPeriod, 'start_period', 0),
    startInterval: time(message.startInterval, 'start_interval', 1),
  };
}

function probe(message: wire.HealthCheck, where: string): HealthProbe {
  const kind = word(message.kind, `${where}.kind`, ['command', 'shell', 'tcp', 'http']);
  if (kind === 'tcp') return { kind, port: port(message.port ?? 0, `${where}.port`) };
  const command = list(message.command, `${where}.command`, LIMIT.arguments, (value, path) =>
    text(value, path, LIMIT.argument),
  );
  const [first] = command;
  if (first === undefined || first === '') throw invalid(`${where}.command`, 'is empty');
  if (kind === 'command') return { kind, command };
  if (command.length > 1) throw invalid(`${where}.command`, 'is more than one text');
  if (kind === 'shell') return { kind, command: first };
  if (!/^\/[\x21-\x7e]*$/.test(first)) throw invalid(`${where}.command`, 'is not the path of a URL');
  return { kind, port: port(message.port ?? 0, `${where}.port`), path: first };
}

function weight(message: wire.WeightSpec, where: string): WeightSpec {
  return {
    ...(message.label === undefined ? {} : { label: text(message.label, `${where}.label`, LIMIT.value) }),
    default: integer(message.default, `${where}.default`, 1, 65_535),
  };
}

export function directory(value: string, where: string): string {
  if (!value.startsWith('/')) throw invalid(where, 'is not an absolute path');
  return text(value, where, 4_095);
}

/** Of a spec or of a task's process. */
export function privilegesFromWire(
  message: Pick<wire.ServiceSpec, 'capAdd' | 'capDrop' | 'privileged'>,
  where: string,
): RequestedPrivileges {
  const names = (values: string[], what: string) =>
    list(values, `${where}.${what}`, CAPABILITY_NAMES.length, (value, path) => word(value, path, CAPABILITY_NAMES));
  return {
    ...(message.capAdd.length === 0 ? {} : { capAdd: names(message.capAdd, 'cap_add') }),
    ...(message.capDrop.length === 0 ? {} : { capDrop: names(message.capDrop, 'cap_drop') }),
    ...(message.privileged === undefined ? {} : { privileged: message.privileged }),
  };
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

/** As specFromWire. */
export function portSpecFromWire(message: wire.PortSpec, where: string): PortSpec {
  return {
    protocol: word(message.protocol, `${where}.protocol`, PROTOCOLS),
    target: port(message.target, `${where}.target`),
    ...(message.published === undefined ? {} : { published: port(message.published, `${where}.published`) }),
    mode: word(message.mode, `${where}.mode`, PORT_MODES),
    ...(message.scheduler === undefined
      ? {}
      : { scheduler: word(message.scheduler, `${where}.scheduler`, SCHEDULERS) }),
    ...(message.fallback === undefined ? {} : { fallback: word(message.fallback, `${where}.fallback`, SCHEDULERS) }),
    ...balancingFromWire(message, where),
    ...(message.nodes.length === 0
      ? {}
      : { nodes: list(message.nodes, `${where}.nodes`, LIMIT.constraints, constraint) }),
  };
}

/** What a declared and an assigned port have in common; as specFromWire. */
export function balancingFromWire(
  message: Pick<wire.PortSpec, 'schedulerFlags' | 'persistence' | 'idleTimeout' | 'policy' | 'addresses' | 'allowFrom'>,
  where: string,
): Pick<PortSpec, 'schedulerFlags' | 'persistence' | 'idleTimeout' | 'policy' | 'addresses' | 'allowFrom'> {
  const { schedulerFlags, persistence, idleTimeout, policy, addresses, allowFrom } = message;
  const flag = (value: string, path: string) => word(value, path, SCHEDULER_FLAGS);
  return {
    ...(schedulerFlags.length === 0
      ? {}
      : { schedulerFlags: list(schedulerFlags, `${where}.scheduler_flags`, SCHEDULER_FLAGS.length, flag) }),
    ...(persistence === undefined ? {} : { persistence: persistenceFromWire(persistence, `${where}.persistence`) }),
    ...(idleTimeout === undefined
      ? {}
      : { idleTimeout: integer(idleTimeout, `${where}.idle_timeout`, 1_000, LIMIT.duration) }),
    ...(policy === undefined ? {} : { policy: word(policy, `${where}.policy`, TRAFFIC_POLICIES) }),
    ...(addresses.length === 0 ? {} : { addresses: list(addresses, `${where}.addresses`, LIMIT.cidrs, network) }),
    ...(allowFrom.length === 0 ? {} : { allowFrom: list(allowFrom, `${where}.allow_from`, LIMIT.cidrs, network) }),
  };
}

function persistenceFromWire(message: wire.Persistence, where: string): Persistence {
  return {
    timeout: integer(message.timeout, `${where}.timeout`, 1_000, LIMIT.duration),
    prefix: {
      inet: integer(message.prefixInet, `${where}.prefix_inet`, 1, 32),
      inet6: integer(message.prefixInet6, `${where}.prefix_inet6`, 1, 128),
    },
  };
}

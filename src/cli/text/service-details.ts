import { formatDuration } from '../../manifest/duration.ts';
import { comparePorts } from '../../manifest/ports.ts';
import { formatSize } from '../../manifest/size.ts';
import {
  type Constraint,
  DEFAULT_UPDATE,
  type HealthCheck,
  type Persistence,
  type PortSpec,
  type ServiceSpec,
  type WeightSpec,
} from '../../model/spec.ts';
import type { PublishedPort, Service } from '../../rpc/messages.ts';
import { lines as printLines } from './lines.ts';
import { pickedPortsText } from './port.ts';
import { commandText } from './service.ts';

/** Names are padded to here, as `docker service inspect --pretty` does with tabs. */
const LABEL_WIDTH = 20;

/** A service in the order and words of `docker service inspect --pretty`. */
export function renderService(service: Service, spec: ServiceSpec, ports: readonly PublishedPort[]): string {
  const lines: string[] = [];
  const addField = (name: string, value: string | number | undefined) => {
    if (value === undefined) return;
    const head = `${name}:`;
    lines.push(value === '' ? head : `${head.padEnd(LABEL_WIDTH - 1)} ${value}`);
  };
  const addMap = (name: string, map: Readonly<Record<string, string>>) => {
    const entries = Object.entries(map);
    if (entries.length > 0) addField(name, '');
    for (const [key, value] of entries) lines.push(` ${key}=${value}`);
  };
  const { update = DEFAULT_UPDATE, restart } = spec;

  addField('ID', service.id);
  addField('Name', service.name);
  addMap('Labels', spec.labels);
  addField('Service Mode', spec.mode === 'global' ? 'Global' : 'Replicated');
  addField(' Replicas', `${service.running}/${service.desired} running`);
  addField('Created', new Date(service.createdAt).toISOString());
  addField('Updated', new Date(service.updatedAt).toISOString());
  addField('Version', service.version);
  addField('Task generation', service.taskGeneration);
  if (spec.constraints.length > 0) {
    addField('Placement', '');
    addField(' Constraints', constraintsText(spec.constraints));
  }
  addField('UpdateConfig', '');
  addField(' Parallelism', update.parallelism === 0 ? '0 (all at once)' : update.parallelism);
  addField(' Delay', formatDuration(update.delay));
  addField(' Update order', update.order);
  addField('RestartPolicy', '');
  addField(' Condition', restart.condition);
  addField(' Delay', restart.delay === undefined ? undefined : formatDuration(restart.delay));
  addField(' Max attempts', restart.maxAttempts || undefined);
  addField(' Window', restart.window === 0 ? undefined : formatDuration(restart.window));
  addField('TaskSpec', '');
  addField(' Runtime', spec.runtime);
  addField(' Command', commandText(spec.command));
  addField(' Working dir', spec.workingDir);
  addField(' User', spec.user);
  addField(' CapAdd', spec.capAdd?.join(', '));
  addField(' CapDrop', spec.capDrop?.join(', '));
  addField(' Privileged', spec.privileged ? 'yes' : undefined);
  addField(' Stop grace period', formatDuration(spec.stopGracePeriod));
  addField(' Log', spec.log && `${spec.log.maxFiles} files of ${formatSize(spec.log.maxSize)}`);
  addField(' Weight', spec.weight && weightText(spec.weight));
  addMap('Env', spec.environment);
  if (spec.health !== undefined) {
    addField('Healthcheck', '');
    addField(' Test', probeText(spec.health.probe));
    addField(' Interval', formatDuration(spec.health.interval));
    addField(' Timeout', formatDuration(spec.health.timeout));
    addField(' Retries', spec.health.retries);
    addField(' Start period', formatDuration(spec.health.startPeriod));
    addField(' Start interval', formatDuration(spec.health.startInterval));
  }
  if (spec.ports.length > 0) addField('Ports', '');
  for (const port of [...spec.ports].sort(comparePorts)) {
    const shown = ports.find((other) => isSamePort(other, port));
    lines.push(...portLines(port, shown).map((line, index) => `${index === 0 ? ' ' : '  '}${line}`));
  }
  return printLines(lines);
}

function isSamePort({ port }: PublishedPort, { published, target, protocol, mode }: PortSpec): boolean {
  return port?.published === published && port?.target === target && port.protocol === protocol && port.mode === mode;
}

/** `PublishedPort = 8080` and the settings of that port; defaults are omitted. */
function portLines(port: PortSpec, publishedPort: PublishedPort | undefined): string[] {
  const { scheduler = 'rr', schedulerFlags = [], fallback = 'rr' } = port;
  const flags = schedulerFlags.length === 0 ? '' : ` (${schedulerFlags.join(', ')})`;
  const lines = [
    `PublishedPort = ${port.published ?? (port.mode === 'host' ? pickedPortsText(publishedPort?.tasks ?? []) : '(not assigned yet)')}`,
    `Protocol = ${port.protocol}`,
    `TargetPort = ${port.target}`,
    `PublishMode = ${port.mode}`,
  ];
  if (port.ready === false) lines.push('Ready = false');
  if (port.mode === 'ingress') {
    lines.push(`Scheduler = ${scheduler}${flags}${scheduler === 'rr' ? '' : `, fallback ${fallback}`}`);
    lines.push(`Policy = ${port.policy ?? 'cluster'}`);
  }
  if (port.persistence !== undefined) lines.push(`Persistence = ${persistenceText(port.persistence)}`);
  if (port.idleTimeout !== undefined) lines.push(`IdleTimeout = ${formatDuration(port.idleTimeout)}`);
  if (port.nodes !== undefined) lines.push(`Nodes = ${constraintsText(port.nodes)}`);
  if (port.addresses !== undefined) lines.push(`Addresses = ${port.addresses.join(', ')}`);
  if (port.allowFrom !== undefined) lines.push(`AllowFrom = ${port.allowFrom.join(', ')}`);
  for (const { nodeName, message } of publishedPort?.degraded ?? []) lines.push(`Degraded = ${nodeName}: ${message}`);
  return lines;
}

function constraintsText(constraints: readonly Constraint[]): string {
  return constraints.map(({ key, operator, value }) => `${key} ${operator} ${value}`).join(', ');
}

function persistenceText({ timeout, prefix }: Persistence): string {
  const perAddress = prefix.inet === 32 && prefix.inet6 === 128;
  return `${formatDuration(timeout)}${perAddress ? '' : `, clients of one /${prefix.inet} (IPv6 /${prefix.inet6}) as one`}`;
}

function weightText({ label, default: defaultWeight }: WeightSpec): string {
  return label === undefined ? `${defaultWeight}` : `node.labels.${label}, ${defaultWeight} without that label`;
}

function probeText(probe: HealthCheck['probe']): string {
  switch (probe.kind) {
    case 'command':
      return commandText(probe.command);
    case 'shell':
      return `sh -c ${commandText([probe.command])}`;
    case 'tcp':
      return `connect to tcp port ${probe.port}`;
    case 'http':
      return `GET http://127.0.0.1:${probe.port}${probe.path}`;
  }
}

import { formatDuration } from '../manifest/duration.ts';
import { comparePorts } from '../manifest/ports.ts';
import {
  type Constraint,
  type HealthCheck,
  type Persistence,
  type PortSpec,
  type ServiceSpec,
  UPDATE_DEFAULT,
  type WeightSpec,
} from '../model/spec.ts';
import type { PublishedPort, Service } from '../rpc/gen/mesh.ts';
import { pickedText } from './port-text.ts';
import { commandText } from './service-text.ts';
import { clean } from './table.ts';

/** Names are padded to here, as `docker service inspect --pretty` does with tabs. */
const COLUMN = 20;

/** A service for people, in the order and words of `docker service inspect --pretty`. */
export function renderService(service: Service, spec: ServiceSpec, ports: readonly PublishedPort[]): string {
  const lines: string[] = [];
  const say = (name: string, value: string | number | undefined) => {
    if (value === undefined) return;
    const head = `${name}:`;
    lines.push(value === '' ? head : `${head.padEnd(COLUMN - 1)} ${clean(String(value))}`);
  };
  const sayMap = (name: string, map: Readonly<Record<string, string>>) => {
    const entries = Object.entries(map);
    if (entries.length > 0) say(name, '');
    for (const [key, value] of entries) lines.push(` ${clean(`${key}=${value}`)}`);
  };
  const { update = UPDATE_DEFAULT, restart } = spec;

  say('ID', service.id);
  say('Name', service.name);
  sayMap('Labels', spec.labels);
  say('Service Mode', spec.mode === 'global' ? 'Global' : 'Replicated');
  say(' Replicas', `${service.running}/${service.desired} running`);
  say('Created', new Date(service.createdAt).toISOString());
  say('Updated', new Date(service.updatedAt).toISOString());
  say('Version', service.version);
  say('Task generation', service.taskGeneration);
  if (spec.constraints.length > 0) {
    say('Placement', '');
    say(' Constraints', constraintsText(spec.constraints));
  }
  say('UpdateConfig', '');
  say(' Parallelism', update.parallelism === 0 ? '0 (all at once)' : update.parallelism);
  say(' Delay', formatDuration(update.delay));
  say(' Update order', update.order);
  say('RestartPolicy', '');
  say(' Condition', restart.condition);
  say(' Delay', restart.delay === undefined ? undefined : formatDuration(restart.delay));
  say(' Max attempts', restart.maxAttempts || undefined);
  say(' Window', restart.window === 0 ? undefined : formatDuration(restart.window));
  say('TaskSpec', '');
  say(' Runtime', spec.runtime);
  say(' Command', commandText(spec.command));
  say(' Working dir', spec.workingDir);
  say(' User', spec.user);
  say(' Stop grace period', formatDuration(spec.stopGracePeriod));
  say(' Weight', spec.weight && weightText(spec.weight));
  sayMap('Env', spec.environment);
  if (spec.health !== undefined) {
    say('Healthcheck', '');
    say(' Test', probeText(spec.health.probe));
    say(' Interval', formatDuration(spec.health.interval));
    say(' Timeout', formatDuration(spec.health.timeout));
    say(' Retries', spec.health.retries);
    say(' Start period', formatDuration(spec.health.startPeriod));
    say(' Start interval', formatDuration(spec.health.startInterval));
  }
  if (spec.ports.length > 0) say('Ports', '');
  for (const port of [...spec.ports].sort(comparePorts)) {
    const shown = ports.find((other) => isSame(other, port));
    lines.push(...portLines(port, shown).map((line, index) => `${index === 0 ? ' ' : '  '}${clean(line)}`));
  }
  return `${lines.join('\n')}\n`;
}

function isSame({ port }: PublishedPort, { published, target, protocol, mode }: PortSpec): boolean {
  return port?.published === published && port?.target === target && port.protocol === protocol && port.mode === mode;
}

/** `PublishedPort = 8080` and below it what is known of that port; what is the default anyway is left out. */
function portLines(port: PortSpec, shown: PublishedPort | undefined): string[] {
  const { scheduler = 'rr', schedulerFlags = [], fallback = 'rr' } = port;
  const flags = schedulerFlags.length === 0 ? '' : ` (${schedulerFlags.join(', ')})`;
  const lines = [
    `PublishedPort = ${port.published ?? (port.mode === 'host' ? pickedText(shown?.tasks ?? []) : '(not chosen yet)')}`,
    `Protocol = ${port.protocol}`,
    `TargetPort = ${port.target}`,
    `PublishMode = ${port.mode}`,
  ];
  if (port.mode === 'ingress') {
    lines.push(
      `Scheduler = ${scheduler}${flags}${scheduler === 'rr' ? '' : `, ${fallback} where the kernel has none`}`,
    );
    lines.push(`Policy = ${port.policy ?? 'cluster'}`);
  }
  if (port.persistence !== undefined) lines.push(`Persistence = ${persistenceText(port.persistence)}`);
  if (port.idleTimeout !== undefined) lines.push(`IdleTimeout = ${formatDuration(port.idleTimeout)}`);
  if (port.nodes !== undefined) lines.push(`Nodes = ${constraintsText(port.nodes)}`);
  if (port.addresses !== undefined) lines.push(`Addresses = ${port.addresses.join(', ')}`);
  if (port.allowFrom !== undefined) lines.push(`AllowFrom = ${port.allowFrom.join(', ')}`);
  for (const { nodeName, message } of shown?.degraded ?? []) lines.push(`Degraded = ${nodeName}: ${message}`);
  return lines;
}

function constraintsText(constraints: readonly Constraint[]): string {
  return constraints.map(({ key, operator, value }) => `${key} ${operator} ${value}`).join(', ');
}

function persistenceText({ timeout, prefix }: Persistence): string {
  const whole = prefix.inet === 32 && prefix.inet6 === 128;
  return `${formatDuration(timeout)}${whole ? '' : `, clients of one /${prefix.inet} (IPv6 /${prefix.inet6}) as one`}`;
}

function weightText({ label, default: otherwise }: WeightSpec): string {
  return label === undefined ? `${otherwise}` : `node.labels.${label}, ${otherwise} without that label`;
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

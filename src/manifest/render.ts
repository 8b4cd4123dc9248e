import { Document, isScalar, Scalar, visit } from 'yaml';
import type { Constraint, HealthCheck, PortSpec, ServiceSpec, WeightSpec } from '../model/spec.ts';
import { formatDuration } from './duration.ts';
import { formatSize } from './size.ts';

/**
 * The canonical form of services: every default written out, ranges expanded, dollar signs doubled so that it can be
 * read back: `parseManifest(renderManifest(specs))` gives `specs`.
 */
export function renderManifest(specs: readonly ServiceSpec[]): string {
  const services = Object.fromEntries(specs.map((spec) => [spec.name, service(spec)]));
  const document = new Document({ services }, { aliasDuplicateObjects: false, schema: 'core', version: '1.2' });
  visit(document, {
    Pair(_, { key }) {
      // A label of this name would be read as a merge key.
      if (isScalar(key) && key.value === '<<') key.type = Scalar.QUOTE_DOUBLE;
    },
  });
  return document.toString({ lineWidth: 0 });
}

function service(spec: ServiceSpec): Record<string, unknown> {
  const { restart, mode } = spec;
  const health = spec.health && healthcheck(spec.health);
  return {
    ...omitIfEmpty('labels', escapeValues(spec.labels)),
    command: spec.command.map(escapeDollars),
    working_dir: escapeDollars(spec.workingDir),
    ...(spec.user === undefined ? {} : { user: escapeDollars(spec.user) }),
    ...(spec.capAdd === undefined ? {} : { cap_add: spec.capAdd }),
    ...(spec.capDrop === undefined ? {} : { cap_drop: spec.capDrop }),
    ...(spec.privileged === undefined ? {} : { privileged: spec.privileged }),
    ...omitIfEmpty('environment', escapeValues(spec.environment)),
    ...omitIfEmpty('ports', spec.ports.map(port)),
    stop_grace_period: formatDuration(spec.stopGracePeriod),
    deploy: {
      mode,
      ...(mode === 'global' ? {} : { replicas: spec.replicas }),
      ...omitIfEmpty('placement', omitIfEmpty('constraints', spec.constraints.map(constraint))),
      restart_policy: {
        condition: restart.condition,
        ...(restart.delay === undefined ? {} : { delay: formatDuration(restart.delay) }),
        max_attempts: restart.maxAttempts,
        window: formatDuration(restart.window),
      },
      ...(spec.update === undefined
        ? {}
        : { update_config: { ...spec.update, delay: formatDuration(spec.update.delay) } }),
    },
    ...(health === undefined || 'tcp' in health || 'http' in health ? {} : { healthcheck: health }),
    ...(spec.log === undefined
      ? {}
      : { logging: { options: { 'max-size': formatSize(spec.log.maxSize), 'max-file': spec.log.maxFiles } } }),
    'x-mesh': {
      runtime: spec.runtime,
      ...(health !== undefined && ('tcp' in health || 'http' in health) ? { healthcheck: health } : {}),
      ...(spec.weight === undefined ? {} : { weight: weight(spec.weight) }),
    },
  };
}

function constraint({ key, operator, value }: Constraint): string {
  return escapeDollars(`${key} ${operator} ${value}`);
}

/** As `healthcheck` of compose, or of `x-mesh` where meshd makes the probe itself. */
function healthcheck({ probe, ...times }: HealthCheck): Record<string, unknown> {
  return {
    ...test(probe),
    interval: formatDuration(times.interval),
    timeout: formatDuration(times.timeout),
    retries: times.retries,
    start_period: formatDuration(times.startPeriod),
    start_interval: formatDuration(times.startInterval),
  };
}

function test(probe: HealthCheck['probe']): Record<string, unknown> {
  switch (probe.kind) {
    case 'command':
      return { test: ['CMD', ...probe.command.map(escapeDollars)] };
    case 'shell':
      return { test: ['CMD-SHELL', escapeDollars(probe.command)] };
    case 'tcp':
      return { tcp: probe.port };
    case 'http':
      return { http: { port: probe.port, path: escapeDollars(probe.path) } };
  }
}

function weight({ label, default: otherwise }: WeightSpec): unknown {
  return label === undefined ? otherwise : { label: `node.labels.${label}`, default: otherwise };
}

function port(spec: PortSpec): Record<string, unknown> {
  return {
    target: spec.target,
    ...(spec.published === undefined ? {} : { published: spec.published }),
    protocol: spec.protocol,
    mode: spec.mode,
    ...omitIfEmpty('x-mesh', balancing(spec)),
  };
}

function balancing(spec: PortSpec): Record<string, unknown> {
  const { persistence } = spec;
  return {
    ...(spec.ready === undefined ? {} : { ready: spec.ready }),
    ...omitIfEmpty('ingress', {
      ...omitIfEmpty('nodes', (spec.nodes ?? []).map(constraint)),
      ...omitIfEmpty('addresses', spec.addresses ?? []),
    }),
    ...omitIfEmpty('allow_from', spec.allowFrom ?? []),
    ...(spec.scheduler === undefined ? {} : { scheduler: spec.scheduler }),
    ...omitIfEmpty('scheduler_flags', spec.schedulerFlags ?? []),
    ...(spec.fallback === undefined ? {} : { fallback: spec.fallback }),
    ...(persistence === undefined
      ? {}
      : {
          persistence: {
            timeout: formatDuration(persistence.timeout),
            mask: `/${persistence.prefix.inet}`,
            mask6: `/${persistence.prefix.inet6}`,
          },
        }),
    ...(spec.idleTimeout === undefined ? {} : { idle_timeout: formatDuration(spec.idleTimeout) }),
    ...(spec.policy === undefined ? {} : { policy: spec.policy }),
  };
}

/** Doubles dollar signs, which would start a variable. */
const escapeDollars = (text: string): string => text.replaceAll('$', '$$$$');

function escapeValues(record: Record<string, string>): Record<string, string> {
  const sorted = Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(sorted.map(([key, value]) => [key, escapeDollars(value)]));
}

function omitIfEmpty(key: string, value: object): Record<string, unknown> {
  return Object.keys(value).length === 0 ? {} : { [key]: value };
}

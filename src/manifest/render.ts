import { Document, isScalar, Scalar, visit } from 'yaml';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';
import { formatDuration } from './duration.ts';

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
  return {
    ...unlessEmpty('labels', escapeValues(spec.labels)),
    command: spec.command.map(dollars),
    working_dir: dollars(spec.workingDir),
    ...(spec.user === undefined ? {} : { user: dollars(spec.user) }),
    ...unlessEmpty('environment', escapeValues(spec.environment)),
    ...unlessEmpty('ports', spec.ports.map(port)),
    stop_grace_period: formatDuration(spec.stopGracePeriod),
    deploy: {
      mode,
      ...(mode === 'global' ? {} : { replicas: spec.replicas }),
      ...unlessEmpty(
        'placement',
        unlessEmpty(
          'constraints',
          spec.constraints.map(({ key, operator, value }) => dollars(`${key} ${operator} ${value}`)),
        ),
      ),
      restart_policy: {
        condition: restart.condition,
        ...(restart.delay === undefined ? {} : { delay: formatDuration(restart.delay) }),
        max_attempts: restart.maxAttempts,
        window: formatDuration(restart.window),
      },
    },
    'x-mesh': { runtime: spec.runtime },
  };
}

function port(spec: PortSpec): Record<string, unknown> {
  return {
    target: spec.target,
    ...(spec.published === undefined ? {} : { published: spec.published }),
    protocol: spec.protocol,
    mode: spec.mode,
  };
}

/** Doubles dollar signs, which would start a variable. */
const dollars = (text: string): string => text.replaceAll('$', '$$$$');

function escapeValues(record: Record<string, string>): Record<string, string> {
  const sorted = Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(sorted.map(([key, value]) => [key, dollars(value)]));
}

function unlessEmpty(key: string, value: object): Record<string, unknown> {
  return Object.keys(value).length === 0 ? {} : { [key]: value };
}

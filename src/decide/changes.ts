import { sameValue } from '../model/equality.ts';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';

/** An update as text, one line per change. Values of the environment are not shown, because they may be secrets. */
export function describeChanges(before: ServiceSpec, after: ServiceSpec): string[] {
  const lines: string[] = [];
  if (before.replicas !== after.replicas) lines.push(`replicas ${before.replicas} → ${after.replicas}`);
  lines.push(...portChanges(before.ports, after.ports));
  for (const [field, words] of FIELDS) if (!sameValue(before[field], after[field])) lines.push(`${words} changed`);
  if ((before.forced ?? 0) !== (after.forced ?? 0)) lines.push('all tasks are replaced');
  return lines;
}

const FIELDS: readonly [keyof ServiceSpec, string][] = [
  ['command', 'command'],
  ['environment', 'environment'],
  ['workingDir', 'working directory'],
  ['user', 'user'],
  ['capAdd', 'cap_add'],
  ['capDrop', 'cap_drop'],
  ['privileged', 'privileged'],
  ['health', 'health check'],
  ['constraints', 'placement constraints'],
  ['restart', 'restart policy'],
  ['update', 'update_config'],
  ['weight', 'weight'],
  ['stopGracePeriod', 'stop grace period'],
  ['labels', 'labels'],
];

function portChanges(before: readonly PortSpec[], after: readonly PortSpec[]): string[] {
  const old = new Map(before.map((port) => [portName(port), port]));
  const now = new Map(after.map((port) => [portName(port), port]));
  const added = [...now.keys()].filter((name) => !old.has(name)).map((name) => `${name} added`);
  const removed = [...old.keys()].filter((name) => !now.has(name)).map((name) => `${name} removed`);
  const changed = [...now].flatMap(([name, port]) => {
    const earlier = old.get(name);
    return earlier === undefined ? [] : portOptionChanges(earlier, port).map((change) => `${name}: ${change}`);
  });
  return [...added, ...removed, ...changed];
}

/** `port 8080:80/tcp`; two ports with this name are the same port. */
export function portName({ mode, published, target, protocol }: PortSpec): string {
  return `${mode === 'host' ? 'host port' : 'port'} ${published ?? '?'}:${target}/${protocol}`;
}

/** Fields of a port besides those in its name, by their names in the manifest. */
function portOptionChanges(before: PortSpec, after: PortSpec): string[] {
  const lines: string[] = [];
  const addIfChanged = (what: string, from: string, to: string) => {
    if (from !== to) lines.push(`${what} ${from} → ${to}`);
  };
  addIfChanged('scheduler', before.scheduler ?? 'rr', after.scheduler ?? 'rr');
  addIfChanged('fallback', before.fallback ?? 'rr', after.fallback ?? 'rr');
  addIfChanged('policy', before.policy ?? 'cluster', after.policy ?? 'cluster');
  const fields: [keyof PortSpec, string][] = [
    ['schedulerFlags', 'scheduler_flags'],
    ['persistence', 'persistence'],
    ['idleTimeout', 'idle_timeout'],
    ['nodes', 'ingress.nodes'],
    ['addresses', 'ingress.addresses'],
    ['allowFrom', 'allow_from'],
  ];
  for (const [field, words] of fields) if (!sameValue(before[field], after[field])) lines.push(`${words} changed`);
  return lines;
}

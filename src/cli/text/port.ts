import type { NodePortCondition, PublishedPort } from '../../rpc/messages.ts';
import { renderTable } from './table.ts';

/** A published port as JSON; `id` and `name` are those of its service. */
export function portRow({ serviceId, serviceName, port, degraded, tasks }: PublishedPort) {
  return {
    id: serviceId,
    name: serviceName,
    published: null,
    ...port,
    degraded: degraded.map(conditionRow),
    tasks: tasks.map(({ taskId, nodeName, published }) => ({ id: taskId, node: nodeName, published })),
  };
}

export function conditionRow({ nodeId, nodeName, kind, message }: NodePortCondition) {
  return { node: nodeName, nodeId, kind, message };
}

/** Sorts by number; ports whose number the nodes choose come last. */
export function sortPorts(ports: readonly PublishedPort[]): PublishedPort[] {
  const number = ({ port }: PublishedPort) => port?.published ?? 65_536;
  const text = ({ port, serviceName }: PublishedPort) => `${port?.protocol} ${serviceName} ${port?.target}`;
  return [...ports].sort((a, b) => number(a) - number(b) || (text(a) < text(b) ? -1 : 1));
}

export function renderPorts(ports: readonly PublishedPort[]): string {
  return renderTable(
    ['PUBLISHED', 'PROTOCOL', 'MODE', 'TARGET', 'SERVICE', 'NODES DEGRADED'],
    ports.map(({ port, serviceName, degraded, tasks }) => [
      port?.published === undefined ? pickedPortsText(tasks) : `${port.published}`,
      port?.protocol ?? '',
      port?.mode ?? '',
      `${port?.target ?? ''}`,
      serviceName,
      degradedText(degraded),
    ]),
  );
}

/** Numbers that nodes chose: `node2:32768, node3:32770`. */
export function pickedPortsText(tasks: PublishedPort['tasks']): string {
  if (tasks.length === 0) return '(chosen by the node)';
  return tasks.map(({ nodeName, published }) => `${nodeName}:${published}`).join(', ');
}

/** `node2 (sshd listens there), node3 (…)` */
function degradedText(degraded: readonly NodePortCondition[]): string {
  return degraded.map(({ nodeName, message }) => `${nodeName} (${message})`).join(', ');
}

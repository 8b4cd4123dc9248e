import { MeshError } from '../../base/errors.ts';
import type { Node, Service } from '../../model/cluster.ts';
import type { ClusterIndex } from './cluster-index.ts';

/** Names listed in a message; the others are counted. */
const MAX_LISTED = 10;

/** A service by name, id or unique id prefix. Errors: `not-found` with the existing names, `conflict` when several match. */
export function findService(index: ClusterIndex, query: string): Service {
  const exact = index.serviceByName(query) ?? index.service(query);
  return exact ?? findByPrefix('service', query, index.activeServices());
}

/** As findService. */
export function findNode(index: ClusterIndex, query: string): Node {
  const exact = index.nodeByName(query) ?? index.node(query);
  return exact ?? findByPrefix('node', query, index.nodes());
}

function findByPrefix<T extends { id: string; name: string }>(kind: string, query: string, all: Iterable<T>): T {
  const objects = [...all];
  const matches = query === '' ? [] : objects.filter(({ id }) => id.startsWith(query));
  if (matches.length === 1) return matches[0]!;
  const shown = JSON.stringify(query.slice(0, 64));
  if (matches.length > 1) {
    throw new MeshError(
      'conflict',
      `${shown} matches the ids of ${matches.length} ${kind}s (${formatNames(matches)}): specify more characters`,
    );
  }
  const hint = objects.length === 0 ? `there are no ${kind}s` : `existing ${kind}s: ${formatNames(objects)}`;
  throw new MeshError('not-found', `no ${kind} ${shown}; ${hint}`);
}

function formatNames(objects: readonly { name: string }[]): string {
  const sorted = objects.map(({ name }) => name).sort();
  const more = sorted.length - MAX_LISTED;
  return sorted.slice(0, MAX_LISTED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

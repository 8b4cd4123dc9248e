import { MeshError } from '../base/errors.ts';
import type { Node, Service } from '../model/cluster.ts';
import type { ClusterIndex } from './cluster-index.ts';

/** Names listed in a message before it only counts. */
const LISTED = 10;

/** A service by name, id, or the beginning of one id. Errors: `not-found` naming what there is, `conflict` when several fit. */
export function findService(index: ClusterIndex, wanted: string): Service {
  const exact = index.serviceByName(wanted) ?? index.service(wanted);
  return exact ?? byPrefix('service', wanted, living(index));
}

/** As findService. */
export function findNode(index: ClusterIndex, wanted: string): Node {
  const exact = index.nodeByName(wanted) ?? index.node(wanted);
  return exact ?? byPrefix('node', wanted, index.nodes());
}

function* living(index: ClusterIndex): Iterable<Service> {
  for (const service of index.services()) if (index.service(service.id) === service) yield service;
}

function byPrefix<T extends { id: string; name: string }>(kind: string, wanted: string, all: Iterable<T>): T {
  const objects = [...all];
  const fitting = wanted === '' ? [] : objects.filter(({ id }) => id.startsWith(wanted));
  if (fitting.length === 1) return fitting[0]!;
  const shown = JSON.stringify(wanted.slice(0, 64));
  if (fitting.length > 1) {
    throw new MeshError(
      'conflict',
      `${shown} begins the ids of ${fitting.length} ${kind}s (${names(fitting)}): give more of it`,
    );
  }
  const rest = objects.length === 0 ? `there are no ${kind}s` : `there are: ${names(objects)}`;
  throw new MeshError('not-found', `no ${kind} ${shown}; ${rest}`);
}

function names(objects: readonly { name: string }[]): string {
  const sorted = objects.map(({ name }) => name).sort();
  const more = sorted.length - LISTED;
  return sorted.slice(0, LISTED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

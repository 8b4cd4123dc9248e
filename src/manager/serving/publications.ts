import type { Clock } from '../../base/clock.ts';
import type { Node } from '../../model/cluster.ts';
import type { Change } from '../../store/store.ts';
import type { AffectedNodes } from './port-table.ts';

/** Changes are reported together after this time, ms: nodes acknowledge one after the other. */
const REPORT_DELAY = 100;
/** A revision that published more services than these is reported once every node has it, not node by node. */
const MAX_REPORTED_EACH = 100;

/**
 * Which ready nodes have not acknowledged the published ports of a service as they are assigned now. What changes in one
 * commit waits for the same nodes, so its cost does not depend on the number of services times nodes.
 */
export interface Publications {
  /** Node ids. */
  pendingNodes(serviceId: string): ReadonlySet<string>;
  /** `published`: services whose ports changed with this commit, and the nodes on which; `ready`: ids of ready nodes after it. */
  onCommit(
    changes: readonly Change[],
    revision: number,
    published: ReadonlyMap<string, AffectedNodes>,
    ready: () => Iterable<string>,
  ): void;
  /** A node's kernel holds this revision. */
  onAck(nodeId: string, revision: number): void;
  stop(): void;
}

/** Services that were published by one revision, on the same nodes. */
interface Publication {
  revision: number;
  /** Those that have not acknowledged it. */
  nodes: Set<string>;
  services: Set<string>;
}

/** `onChange` is called with services whose pending nodes changed. */
export function createPublications(clock: Clock, onChange: (serviceIds: ReadonlySet<string>) => void): Publications {
  const open = new Set<Publication>();
  const byService = new Map<string, Set<Publication>>();
  let changed = new Set<string>();
  let cancelReport: (() => void) | undefined;

  function report(serviceIds: Iterable<string>): void {
    for (const id of serviceIds) changed.add(id);
    if (changed.size === 0) return;
    cancelReport ??= clock.after(REPORT_DELAY, () => {
      cancelReport = undefined;
      const ids = changed;
      changed = new Set();
      onChange(ids);
    });
  }

  function publish(revision: number, nodes: Iterable<string>, services: Iterable<string>): void {
    const publication = { revision, nodes: new Set(nodes), services: new Set(services) };
    if (publication.nodes.size === 0 || publication.services.size === 0) return;
    open.add(publication);
    for (const id of publication.services) {
      const of = byService.get(id);
      if (of === undefined) byService.set(id, new Set([publication]));
      else of.add(publication);
    }
  }

  /** A later revision on every node includes what the earlier ones published. */
  function supersede(serviceId: string): void {
    for (const publication of byService.get(serviceId) ?? []) {
      publication.services.delete(serviceId);
      if (publication.services.size === 0) open.delete(publication);
    }
    byService.delete(serviceId);
  }

  function removeNode(publication: Publication, nodeId: string): void {
    if (!publication.nodes.delete(nodeId)) return;
    const { nodes, services } = publication;
    if (nodes.size === 0) {
      open.delete(publication);
      for (const id of services) {
        const of = byService.get(id);
        of?.delete(publication);
        if (of?.size === 0) byService.delete(id);
      }
    }
    if (nodes.size === 0 || services.size <= MAX_REPORTED_EACH) report(services);
  }

  return {
    pendingNodes: (serviceId) => new Set([...(byService.get(serviceId) ?? [])].flatMap(({ nodes }) => [...nodes])),
    onCommit(changes, revision, published, ready) {
      for (const { collection, id, after } of changes) {
        if (collection !== 'nodes' || (after as Node | undefined)?.state === 'ready') continue;
        for (const publication of [...open]) removeNode(publication, id);
      }
      if (published.size === 0) return;
      const readyNodes = new Set(ready());
      const everywhere: string[] = [];
      for (const [serviceId, nodes] of published) {
        if (nodes === 'all') {
          supersede(serviceId);
          everywhere.push(serviceId);
        } else {
          const affected = [...nodes].filter((id) => readyNodes.has(id));
          publish(revision, affected, [serviceId]);
        }
      }
      publish(revision, readyNodes, everywhere);
      report(published.keys());
    },
    onAck(nodeId, revision) {
      for (const publication of [...open]) if (publication.revision <= revision) removeNode(publication, nodeId);
    },
    stop: () => cancelReport?.(),
  };
}

import type { Node } from '../../rpc/messages.ts';
import { lines } from './lines.ts';
import { renderTable } from './table.ts';
import { capitalize } from './task.ts';

/** A node as JSON. `self` is the id of the node on which meshctl runs. */
export function nodeRow(node: Node, self: string) {
  return {
    id: node.id,
    name: node.name,
    hostname: node.name,
    self: node.id === self,
    status: node.state,
    availability: node.availability,
    role: node.role,
    managerStatus: node.role === 'manager' ? 'leader' : '',
    version: node.agentVersion,
    address: node.underlay,
    number: node.number,
    labels: node.labels,
    kernel: node.kernelRelease,
    tasks: node.tasksRunning,
    revision: node.acknowledgedRevision,
    conditions: node.conditions,
    stateSince: node.stateSince,
    createdAt: node.createdAt,
    updatedAt: node.updatedAt,
  };
}

/** The columns of `docker node ls`; the conditions of the nodes follow below the table. */
export function renderNodes(nodes: readonly Node[], self: string): string {
  const sorted = [...nodes].sort((a, b) => (a.name < b.name ? -1 : 1));
  const table = renderTable(
    ['ID', 'HOSTNAME', 'STATUS', 'AVAILABILITY', 'MANAGER STATUS', 'VERSION'],
    sorted.map((node) => {
      const row = nodeRow(node, self);
      const id = row.self ? `${row.id} *` : row.id;
      return [
        id,
        row.name,
        capitalize(row.status),
        capitalize(row.availability),
        capitalize(row.managerStatus),
        row.version,
      ];
    }),
  );
  const conditions = sorted.flatMap((node) => node.conditions.map((condition) => `${node.name}: ${condition}`));
  return table + lines(conditions);
}

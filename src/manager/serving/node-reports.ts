import type { Listener, Node, PortCondition, Task } from '../../model/cluster.ts';
import { type Condition, conditionEffect, renderCondition } from '../../model/condition.ts';
import type { NodeObservations } from '../leading/cluster-view.ts';
import type { ClusterIndex } from './cluster-index.ts';

/** What nodes last reported of themselves; in memory only, because every session reports it anew. */
export interface NodeReports extends NodeObservations {
  /** What is wrong on the node, for people. */
  conditions(nodeId: string): string[];
  /** Published ports that differ on the node from their declaration. */
  portConditions(nodeId: string): readonly PortCondition[];
  /** A session begins: the node may have been restarted, so what its kernel holds is unknown. */
  onSession(nodeId: string): void;
  onAck(nodeId: string, revision: number, failures: readonly string[]): void;
  onConnections(nodeId: string, revision: number, active: ReadonlyMap<string, number>): void;
  onConditions(nodeId: string, conditions: readonly Condition[]): void;
  onListeners(nodeId: string, listeners: readonly Listener[]): void;
  onPortConditions(nodeId: string, conditions: readonly PortCondition[]): void;
  remove(nodeId: string): void;
}

interface NodeReport {
  acknowledged: number;
  failures: readonly string[];
  conditions: readonly Condition[];
  listeners: readonly Listener[];
  portConditions: readonly PortCondition[];
  connections: { revision: number; active: ReadonlyMap<string, number> };
}

/** `countsConnections`: whether a node counts the connections of a task, because it has it as a real server with weight 0. */
export function createNodeReports(
  index: ClusterIndex,
  countsConnections: (node: Node, task: Task) => boolean,
): NodeReports {
  const reports = new Map<string, NodeReport>();
  const getOrCreate = (nodeId: string): NodeReport => {
    let report = reports.get(nodeId);
    if (report === undefined) {
      const connections = { revision: -1, active: new Map() };
      report = { acknowledged: 0, failures: [], conditions: [], listeners: [], portConditions: [], connections };
      reports.set(nodeId, report);
    }
    return report;
  };
  return {
    acknowledged: (nodeId) => reports.get(nodeId)?.acknowledged ?? 0,
    openConnections(taskId, revision) {
      const task = index.task(taskId);
      if (task === undefined) return 0;
      let sum = 0;
      for (const node of index.nodes()) {
        if (node.state !== 'ready' || !countsConnections(node, task)) continue;
        const latest = reports.get(node.id)?.connections;
        const active = latest && latest.revision >= revision ? latest.active.get(taskId) : undefined;
        if (active === undefined) return undefined;
        sum += active;
      }
      return sum;
    },
    conditions(nodeId) {
      const report = reports.get(nodeId);
      if (report === undefined) return [];
      // The agent reports the first failed operation as a condition too.
      const reported = report.conditions.map(({ params }) => params['error']);
      const others = report.failures.filter((error) => !reported.includes(error));
      return [...report.conditions.map(renderCondition), ...others.map((error) => `kernel: ${error}`)];
    },
    impairments(nodeId) {
      const codes = (reports.get(nodeId)?.conditions ?? []).map(({ code }) => code);
      return [...new Set(codes)].filter((code) => conditionEffect(code) !== undefined).sort();
    },
    listeners: (nodeId) => reports.get(nodeId)?.listeners ?? [],
    portConditions: (nodeId) => reports.get(nodeId)?.portConditions ?? [],
    onSession(nodeId) {
      getOrCreate(nodeId).acknowledged = 0;
    },
    onAck(nodeId, revision, failures) {
      const report = getOrCreate(nodeId);
      report.acknowledged = revision;
      report.failures = failures;
    },
    onConnections(nodeId, revision, active) {
      getOrCreate(nodeId).connections = { revision, active };
    },
    onConditions(nodeId, conditions) {
      getOrCreate(nodeId).conditions = conditions;
    },
    onListeners(nodeId, listeners) {
      getOrCreate(nodeId).listeners = listeners;
    },
    onPortConditions(nodeId, conditions) {
      getOrCreate(nodeId).portConditions = conditions;
    },
    remove: (nodeId) => reports.delete(nodeId),
  };
}

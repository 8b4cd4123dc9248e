import type { NodeDiff } from '../../rpc/messages.ts';
import { lines } from './lines.ts';

export function diffRow({ nodeId, nodeName, steps, error, revision }: NodeDiff) {
  return { id: nodeId, name: nodeName, steps, error, revision };
}

/** The steps of each node, indented below its name. */
export function renderSteps(nodes: readonly NodeDiff[]): string {
  return lines(
    nodes.flatMap(({ nodeName, steps, error }) => {
      if (error !== '') return [`${nodeName}: ${error}`];
      if (steps.length === 0) return [`${nodeName}: nothing to do`];
      const count = steps.length === 1 ? '1 step' : `${steps.length} steps`;
      return [`${nodeName}: ${count}`, ...steps.map((step) => `  ${step}`)];
    }),
  );
}

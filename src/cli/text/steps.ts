import type { NodeDiff } from '../../rpc/messages.ts';
import { sanitize } from './table.ts';

export function diffRow({ nodeId, nodeName, steps, error, revision }: NodeDiff) {
  return { id: nodeId, name: nodeName, steps, error, revision };
}

/** Steps of each node below its name; a node that has nothing to do says so. */
export function renderSteps(nodes: readonly NodeDiff[]): string {
  return nodes
    .map(({ nodeName, steps, error }) => {
      const head = `${nodeName}: `;
      if (error !== '') return `${head}${sanitize(error)}\n`;
      if (steps.length === 0) return `${head}nothing to do\n`;
      const count = steps.length === 1 ? '1 step' : `${steps.length} steps`;
      return `${head}${count}\n${steps.map((step) => `  ${sanitize(step)}\n`).join('')}`;
    })
    .join('');
}

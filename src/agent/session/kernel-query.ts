import { networkInterfaces } from 'node:os';
import type { KernelState } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { portMark } from '../../model/linux-names.ts';
import { type KernelAnswer, type PortFilter, parsePortFilter } from '../../model/node-answers.ts';

interface KernelQueryResult extends KernelAnswer {
  objects: KernelObject[];
}

/** Observes the kernel; throws MeshError `invalid` for a malformed argument. */
export async function answerKernelQuery(
  argument: unknown,
  revision: number,
  observe: () => Promise<KernelState>,
): Promise<KernelQueryResult> {
  const filter = parsePortFilter(argument);
  const objects = [...(await observe()).values()].filter((object) => isRelevant(object, filter));
  return { revision, addresses: hostAddresses(), objects };
}

/** Whether an object may affect a packet to that port: all except those of other ports. */
function isRelevant(object: KernelObject, filter: PortFilter | undefined): boolean {
  if (filter === undefined) return true;
  switch (object.kind) {
    case 'set-member':
    case 'set-entry':
      return object.port === undefined || object.port === filter.published;
    case 'fast-path-port':
      return object.mark === portMark(filter.protocol, filter.published);
    case 'virtual-service':
    case 'real-server':
      return object.fwmark === portMark(filter.protocol, filter.published);
    default:
      return true;
  }
}

function hostAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
}

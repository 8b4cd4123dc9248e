import { networkInterfaces } from 'node:os';
import { MeshError } from '../../base/errors.ts';
import type { Protocol } from '../../model/address.ts';
import type { KernelObject, KernelState } from '../../model/kernel-state.ts';
import { portMark } from '../../model/linux-names.ts';

/** What a node answers when it is asked for its kernel objects. */
interface KernelQueryResult {
  /** Revision of the assignment the kernel holds. */
  revision: number;
  /** Every address of the host netns. */
  addresses: string[];
  objects: KernelObject[];
}

/** Narrows the answer to what matters for one published port; undefined asks for everything. */
interface PortFilter {
  protocol: Protocol;
  published: number;
}

/** The answer from a fresh look; throws MeshError `invalid` for an argument that makes no sense. */
export async function answerKernelQuery(
  argument: unknown,
  revision: number,
  observe: () => Promise<KernelState>,
): Promise<KernelQueryResult> {
  const filter = parsePortFilter(argument);
  const objects = [...(await observe()).values()].filter((object) => isRelevant(object, filter));
  return { revision, addresses: hostAddresses(), objects };
}

function parsePortFilter(argument: unknown): PortFilter | undefined {
  if (argument === undefined) return undefined;
  const { protocol, published } = (argument ?? {}) as Record<string, unknown>;
  const isProtocol = protocol === 'tcp' || protocol === 'udp' || protocol === 'sctp';
  if (!isProtocol || !Number.isInteger(published)) {
    throw new MeshError('invalid', 'the question for kernel objects names a protocol and a published port, or nothing');
  }
  return { protocol, published: published as number };
}

/** Whether an object may touch a packet to that port: all but what other ports alone have. */
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

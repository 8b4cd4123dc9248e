import { networkInterfaces } from 'node:os';
import { MeshError } from '../base/errors.ts';
import type { Protocol } from '../model/address.ts';
import type { KernelObject, KernelState } from '../model/kernel-state.ts';
import { portMark } from '../model/names.ts';

/** What a node answers when it is asked for its kernel objects. */
interface KernelAnswer {
  /** Revision of the assignment the kernel holds. */
  revision: number;
  /** Every address of the host netns. */
  addresses: string[];
  objects: KernelObject[];
}

/** Narrows the answer to what matters for one published port; undefined asks for everything. */
interface Wanted {
  protocol: Protocol;
  published: number;
}

/** The answer from a fresh look; throws MeshError `invalid` for an argument that makes no sense. */
export async function kernelAnswer(
  argument: unknown,
  revision: number,
  observe: () => Promise<KernelState>,
): Promise<KernelAnswer> {
  const wanted = wantedFrom(argument);
  const objects = [...(await observe()).values()].filter((object) => concerns(object, wanted));
  return { revision, addresses: hostAddresses(), objects };
}

function wantedFrom(argument: unknown): Wanted | undefined {
  if (argument === undefined) return undefined;
  const { protocol, published } = (argument ?? {}) as Record<string, unknown>;
  const known = protocol === 'tcp' || protocol === 'udp' || protocol === 'sctp';
  if (!known || !Number.isInteger(published)) {
    throw new MeshError('invalid', 'the question for kernel objects names a protocol and a published port, or nothing');
  }
  return { protocol, published: published as number };
}

/** Whether an object may touch a packet to that port: all but what other ports alone have. */
function concerns(object: KernelObject, wanted: Wanted | undefined): boolean {
  if (wanted === undefined) return true;
  switch (object.kind) {
    case 'set-member':
    case 'set-entry':
      return object.port === undefined || object.port === wanted.published;
    case 'shortcut-port':
      return object.mark === portMark(wanted.protocol, wanted.published);
    case 'virtual-service':
    case 'real-server':
      return object.fwmark === portMark(wanted.protocol, wanted.published);
    default:
      return true;
  }
}

function hostAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
}

import type { IpAddress } from '../model/address.ts';
import { fastPathPortKey } from '../model/kinds/fast-path-entries.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { HOST_NETNS, portMark } from '../model/linux-names.ts';
import { isAddressOf } from './addresses.ts';
import type { NodeState, TraceRequest } from './packet.ts';

/** The program on the link where packets for this address of the host arrive. */
export function hostInProgram(state: NodeState['state'], address: IpAddress): KernelObject | undefined {
  return [...state.values()].find(
    (object) => object.kind === 'fast-path' && object.program?.type === 'host-in' && object.program.address === address,
  );
}

/** The program that redirects the packets of this connection to the lb, past the host's netfilter, and the answers out of it. */
export function hostFastPath({ client, destination, protocol, port, node }: TraceRequest): KernelObject | undefined {
  const isOpen = node.state.has(fastPathPortKey(HOST_NETNS, portMark(protocol, port)));
  return isOpen && !isAddressOf(node, client) ? hostInProgram(node.state, destination) : undefined;
}

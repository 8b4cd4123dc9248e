import type { IpAddress, Protocol } from '../model/address.ts';
import type { TaskSocket } from '../model/bound-socket.ts';
import type { KernelState } from '../model/kernel-state.ts';
import type { ConnectionRoutes } from '../model/route-lookup.ts';

/** One node as its agent dumped it. */
export interface NodeState {
  nodeId: string;
  name: string;
  /** Revision of the assignment this kernel holds. */
  revision: number;
  state: KernelState;
  /** Every address of its host netns. */
  addresses: readonly IpAddress[];
  /** Sockets of its tasks on the targets of the traced port; undefined when the node does not report them. */
  sockets?: readonly TaskSocket[];
}

/** The first packet of a connection, at its current place. */
export interface Packet {
  protocol: Protocol;
  source: IpAddress;
  destination: IpAddress;
  port: number;
  netns: string;
  /** The link it was received on; undefined for a packet of this netns. */
  inputLink?: string;
  /** The link it will be sent on, once that is known. */
  outputLink?: string;
  mark: number;
  connmark: number;
  /** Its destination was changed by NAT on this node. */
  translated: boolean;
  /** On its way back to the client. */
  answer: boolean;
  /** The destination of the first packet of its connection in this netns, before NAT, where that matters. */
  called?: IpAddress;
}

/** One kernel object on the path of the packet. */
export interface Hop {
  node: string;
  netns: string;
  /** The object in the syntax of its command line tool. */
  object: string;
  /** What it does to the packet. */
  effect: string;
  /** `refused`: the client gets an error at once; `lost`: it gets no reply and times out. */
  verdict: 'pass' | 'refused' | 'lost';
}

export interface TraceRequest {
  client: IpAddress;
  /** The node the client connects to, and its address. */
  node: NodeState;
  destination: IpAddress;
  protocol: Protocol;
  port: number;
  /** How the host of the node routes the connection; when absent, as if it had a route for everything. */
  routes?: ConnectionRoutes;
}

export type Outcome = 'answered' | 'refused' | 'lost';

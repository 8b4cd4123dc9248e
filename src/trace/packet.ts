import type { IpAddress, Protocol } from '../model/address.ts';
import type { KernelState } from '../model/kernel-state.ts';

/** One node as its agent dumped it. */
export interface NodeState {
  nodeId: string;
  name: string;
  /** Revision of the assignment this kernel holds. */
  revision: number;
  state: KernelState;
  /** Every address of its host netns. */
  addresses: readonly IpAddress[];
}

/** The first packet of a connection, where it is now. */
export interface Packet {
  protocol: Protocol;
  source: IpAddress;
  destination: IpAddress;
  port: number;
  netns: string;
  /** The link it came in on; undefined when it was made here. */
  inputLink?: string;
  /** The link it goes out on, once that is known. */
  outputLink?: string;
  mark: number;
  connmark: number;
  /** Its destination was changed by NAT on this node. */
  translated: boolean;
  /** On its way back to the client. */
  answer: boolean;
}

/** One thing the packet meets. */
export interface Hop {
  node: string;
  netns: string;
  /** The object, in CLI words. */
  object: string;
  /** What it does to the packet. */
  effect: string;
  /** `refused`: the client is told at once; `lost`: it waits for nothing. */
  verdict: 'pass' | 'refused' | 'lost';
}

export interface TraceRequest {
  client: IpAddress;
  /** The node the client sends to, and the address of it. */
  node: NodeState;
  destination: IpAddress;
  protocol: Protocol;
  port: number;
}

export type Outcome = 'answered' | 'refused' | 'lost';

import type { IpAddress, Protocol } from './address.ts';

/** Where the kernel of a node sends a packet of its host netns. */
export type RouteResult =
  | { link: string; via?: IpAddress; table: number }
  /** Name of the error number: `ENETUNREACH`. */
  | { error: string };

/** A packet in the host netns of a node whose way is asked for. */
export interface RouteQuestion {
  source: IpAddress;
  destination: IpAddress;
  /** Absent: the host sends it. */
  inputLink?: string;
  mark: number;
  protocol: Protocol;
  sourcePort: number;
  destinationPort: number;
}

/** How a node's host routes one connection to a published port; the kernel's own answers. */
export interface ConnectionRoutes {
  /** The answer if a program of the host gave it: from the called address. */
  own: RouteResult;
  /** The answer as it comes from the lb. */
  answer: RouteResult;
  /** The request to the lb, if it arrives where `own` leaves. */
  request: RouteResult;
}

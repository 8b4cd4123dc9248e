import type { IpAddress } from './address.ts';

/** One thing that was looked at. */
export interface Finding {
  level: 'ok' | 'warning' | 'error';
  /** What kind of thing, one word: `sysctl`, `mtu`, `path` … */
  check: string;
  what: string;
  /** A command to type, or what to do; empty when all is well. */
  remedy: string;
}

/** What a node found out about itself, and how it reaches the others. */
export interface DoctorReport {
  /** Wall clock when the question came, and how long the answer took, ms. */
  now: number;
  took: number;
  version: string;
  findings: Finding[];
  /** Bytes of one packet inside the overlay; undefined before it stands. */
  overlayMtu?: number;
  echoes: EchoResult[];
}

/** ICMP echo from this node's VTEP to another's, so that VXLAN, FDB, packet filters and MTU are all on the way. */
export interface EchoResult {
  nodeId: string;
  underlay: IpAddress;
  /** Milliseconds; undefined when no answer came. */
  small?: number;
  /** The same with as many bytes as the overlay takes, and DF. */
  full?: number;
}

export const ok = (check: string, what: string): Finding => ({ level: 'ok', check, what, remedy: '' });
export const warning = (check: string, what: string, remedy: string): Finding => ({
  level: 'warning',
  check,
  what,
  remedy,
});
export const error = (check: string, what: string, remedy: string): Finding => ({
  level: 'error',
  check,
  what,
  remedy,
});

import type { KernelObject, ObjectKind } from '../../model/kinds/registry.ts';
import type { Namespaces } from '../driver/namespaces.ts';
import { isTaskNetns } from '../driver/namespaces.ts';
import type { Transport } from '../driver/transport.ts';
import type { FastPathDriver } from '../fast-path/fast-path-driver.ts';
import type { Firewall } from '../firewall/firewall.ts';
import type { IpvsFamily } from '../ipvs/ipvs.ts';
import type { LinkView } from './observe-links.ts';

/** What observing needs. */
export interface ObserveContext {
  transport: Transport;
  namespaces: Namespaces;
  firewall: Firewall;
  ipvs: IpvsFamily;
  fastPath: FastPathDriver;
  /** What the node should hold: names the sysctls and timeouts that matter, and the position a jump should have. */
  desired(): ReadonlyMap<string, KernelObject>;
}

/** One observation of one netns. */
export interface NetnsScan extends ObserveContext {
  netns: string;
  view: LinkView;
  includes(kind: ObjectKind): boolean;
  /** What this netns should hold. */
  desiredHere: readonly KernelObject[];
  /** Names that our links have in this netns. */
  ownLinkNames(): ReadonlySet<string>;
}

/** Lists what exists in a netns of the kinds that the scan includes. */
export type Observer = (scan: NetnsScan) => Promise<readonly KernelObject[]>;

/** Whether such objects can be ours here: in a task's netns they are the task's own, unless some are desired there. */
export function isManagedHere({ netns, desiredHere }: NetnsScan, ...kinds: readonly ObjectKind[]): boolean {
  return !isTaskNetns(netns) || desiredHere.some(({ kind }) => kinds.includes(kind));
}

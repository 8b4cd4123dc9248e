import type { Op } from '../../model/kernel-state.ts';
import type { NetlinkRequest } from '../../netlink/message.ts';
import type { FastPathOp } from '../fast-path/fast-path-driver.ts';
import type { FirewallOp } from '../firewall/firewall-text.ts';
import { NETLINK_ROUTE } from './transport.ts';

/** What a request needs to know of the kernel when it is written. */
export interface RequestContext {
  /** ifindex of a link in the step's netns; throws when there is none. */
  index(name: string): number;
  /** Open descriptor of a netns; throws when there is none. */
  fd(netns: string): number;
  /** Number of the IPVS family. */
  ipvsFamilyId: number;
}

/** One step of an operation, by the backend that executes it. */
export type Step =
  | NetlinkStep
  | { backend: 'namespace'; netns: string; act: 'create' | 'remove' }
  | { backend: 'sysctl'; netns: string; name: string; value: string }
  | { backend: 'firewall'; netns: string; op: FirewallOp }
  | { backend: 'fast-path'; netns: string; op: FastPathOp };

export interface NetlinkStep {
  backend: 'netlink';
  /** Where the socket is. */
  netns: string;
  protocol: number;
  /** Links of that netns the request names by ifindex. */
  usedLinks: readonly string[];
  /** Links, as `netns name`, that the request creates or deletes. */
  changedLinks: readonly string[];
  /** The request for an operation that takes this step. */
  buildRequest(context: RequestContext, op: Op): NetlinkRequest;
}

const NO_LINKS: readonly string[] = [];

/** A request to rtnetlink in one netns. */
export function routeStep(
  netns: string,
  buildRequest: NetlinkStep['buildRequest'],
  usedLinks: readonly string[] = NO_LINKS,
  changedLinks: readonly string[] = NO_LINKS,
): NetlinkStep {
  return { backend: 'netlink', netns, protocol: NETLINK_ROUTE, usedLinks, changedLinks, buildRequest };
}

/**
 * Steps whose request names no link and depends on the operation alone, one per netns for all objects of a kind: there
 * may be 100,000 of them.
 */
export function sharedSteps(
  protocol: number,
  buildRequest: NetlinkStep['buildRequest'],
): (netns: string) => readonly Step[] {
  const byNetns = new Map<string, readonly Step[]>();
  return (netns) => {
    let steps = byNetns.get(netns);
    if (steps === undefined) {
      steps = [{ backend: 'netlink', netns, protocol, usedLinks: NO_LINKS, changedLinks: NO_LINKS, buildRequest }];
      byNetns.set(netns, steps);
    }
    return steps;
  };
}

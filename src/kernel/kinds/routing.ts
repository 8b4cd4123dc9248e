import type { KernelObject, ObjectKind } from '../../model/kinds/registry.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import type { NetlinkMessage, NetlinkRequest } from '../../netlink/message.ts';
import { kernelErrorCode } from '../driver/exchange.ts';
import { NETLINK_ROUTE } from '../driver/transport.ts';
import type { LinkNameOf } from '../observe/observe-links.ts';
import type { NetnsScan } from '../observe/observer.ts';
import type { KernelEvent } from './kind.ts';

/*
 * What addresses, neighbours, FDB entries and routes have in common: each is listed by one dump, and an event names
 * its link by ifindex.
 */

/** One dump of rtnetlink; a link that was removed since it was listed has nothing on it. */
export async function dumpRouting({ transport, netns }: NetnsScan, request: NetlinkRequest): Promise<NetlinkMessage[]> {
  try {
    return await transport.dump(netns, NETLINK_ROUTE, request);
  } catch (thrown) {
    if (kernelErrorCode(thrown) === 'ENODEV') return [];
    throw thrown;
  }
}

/** The host may have thousands of entries that are not ours, so there only those on our links are listed. */
export async function linkFilters({ netns, view }: NetnsScan): Promise<readonly { index?: number }[]> {
  return netns === HOST_NETNS ? (await view.linksOf(netns)).map(({ index }) => ({ index })) : [{}];
}

/** An event about an object on a link. Without a known name it is of another program in the host, and of any of ours elsewhere. */
export function eventOnLink(
  netns: string,
  kind: ObjectKind,
  index: number,
  nameOf: LinkNameOf,
  key: (dev: string) => string,
  read: () => KernelObject | undefined,
): KernelEvent[] {
  const dev = nameOf(index);
  if (dev !== undefined) return [{ of: 'object', kind, key: key(dev), object: read() }];
  return netns === HOST_NETNS ? [] : [{ of: 'kind', kind }];
}

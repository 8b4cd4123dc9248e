import type { IpSet, KernelObject, ObjectKind, SetMember } from '../model/kernel-state.ts';
import { SET_PREFIX } from '../model/names.ts';
import { collectSets, dumpSets, type SetListing } from '../netlink/ipset.ts';
import { NETLINK_NETFILTER, type Transport } from './transport.ts';

const ALL_BITS = 0xffff_ffff;

/** Our ipsets of one netns, by name, and their members. */
export async function observeSets(
  transport: Transport,
  netns: string,
  wants: (kind: ObjectKind) => boolean,
): Promise<KernelObject[]> {
  const headerOnly = !wants('set-member');
  const sets = collectSets(await transport.dump(netns, NETLINK_NETFILTER, dumpSets({ headerOnly })));
  if (!sets.ok) throw sets.error;
  const ours = sets.value.filter(({ name }) => name.startsWith(SET_PREFIX));
  return ours.flatMap((listing) => [
    ...(wants('ipset') ? [setObject(netns, listing)] : []),
    ...(wants('set-member') ? memberObjects(netns, listing) : []),
  ]);
}

function setObject(netns: string, listing: SetListing): IpSet {
  const { name, type, range, skbinfo } = listing;
  // A set of ours by name and of another type differs in its range from anything wanted, and is replaced.
  const asked = type === 'bitmap:port' ? range : undefined;
  return { kind: 'ipset', netns, name, type: 'bitmap:port', range: asked ?? { from: 0, to: 0 }, skbinfo };
}

function memberObjects(netns: string, listing: SetListing): SetMember[] {
  return listing.entries.flatMap(({ port, skbMark }) => {
    if (port === undefined) return [];
    const member = { kind: 'set-member' as const, netns, set: listing.name, port };
    if (!listing.skbinfo) return [member];
    // A partial mask is none of ours: reported as no mark, it is set anew.
    return [skbMark?.mask === ALL_BITS ? { ...member, mark: skbMark.mark } : member];
  });
}

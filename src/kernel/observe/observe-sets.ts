import type { Cidr, IpAddress } from '../../model/address.ts';
import { hostNetwork } from '../../model/block.ts';
import type { HashSet, IpSet, KernelObject, ObjectKind, SetEntry, SetMember } from '../../model/kernel-state.ts';
import { SET_PREFIX } from '../../model/names.ts';
import { collectSets, dumpSets, type SetListing } from '../../netlink/ipset.ts';
import type { SetEntry as NetlinkSetEntry } from '../../netlink/ipset-entry.ts';
import { NETLINK_NETFILTER, type Transport } from '../driver/transport.ts';

const ALL_BITS = 0xffff_ffff;
const HASH_TYPES: readonly HashSet['type'][] = ['hash:ip', 'hash:net,port', 'hash:net,port,net'];

/** Our ipsets of one netns, by name, and their members. */
export async function observeSets(
  transport: Transport,
  netns: string,
  includesKind: (kind: ObjectKind) => boolean,
): Promise<KernelObject[]> {
  const headerOnly = !includesKind('set-member') && !includesKind('set-entry');
  const sets = collectSets(await transport.dump(netns, NETLINK_NETFILTER, dumpSets({ headerOnly })));
  if (!sets.ok) throw sets.error;
  const ours = sets.value.filter(({ name }) => name.startsWith(SET_PREFIX));
  return ours.flatMap((listing) => [
    ...(includesKind('ipset') ? [setObject(netns, listing)] : []),
    ...(headerOnly ? [] : memberObjects(netns, listing).filter(({ kind }) => includesKind(kind))),
  ]);
}

function setObject(netns: string, listing: SetListing): IpSet {
  const { name, type, range, family, skbinfo } = listing;
  const head = { kind: 'ipset' as const, netns, name, skbinfo };
  const hash = HASH_TYPES.find((known) => known === type);
  if (hash !== undefined && family !== undefined) return { ...head, type: hash, family };
  // A set of ours by name and of a type never wanted differs in its range from anything wanted, and is replaced.
  const knownRange = type === 'bitmap:port' ? range : undefined;
  return { ...head, type: 'bitmap:port', range: knownRange ?? { from: 0, to: 0 } };
}

function memberObjects(netns: string, listing: SetListing): (SetMember | SetEntry)[] {
  return listing.entries.flatMap((entry): (SetMember | SetEntry)[] => {
    if (entry.address !== undefined) return [entryObject(netns, listing.name, entry.address, entry)];
    const { port, skbMark } = entry;
    if (port === undefined) return [];
    const member = { kind: 'set-member' as const, netns, set: listing.name, port };
    if (!listing.skbinfo) return [member];
    // A partial mask is none of ours: reported as no mark, it is set anew.
    return [skbMark?.mask === ALL_BITS ? { ...member, mark: skbMark.mark } : member];
  });
}

function entryObject(netns: string, set: string, address: IpAddress, entry: NetlinkSetEntry): SetEntry {
  const { prefix, protocol, port, address2, prefix2, noMatch } = entry;
  return {
    kind: 'set-entry',
    netns,
    set,
    network: networkOf(address, prefix),
    ...(protocol === undefined ? {} : { protocol }),
    ...(port === undefined ? {} : { port }),
    ...(address2 === undefined ? {} : { network2: networkOf(address2, prefix2) }),
    ...(noMatch === true ? { foreign: ['nomatch'] } : {}),
  };
}

function networkOf(address: IpAddress, prefix: number | undefined): Cidr {
  return prefix === undefined ? hostNetwork(address) : `${address}/${prefix}`;
}

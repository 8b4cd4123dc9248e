import type { Cidr, IpAddress } from '../../model/address.ts';
import { hostNetwork } from '../../model/block.ts';
import type { HashSet, IpSet } from '../../model/kinds/ipset.ts';
import type { SetEntry } from '../../model/kinds/set-entry.ts';
import type { SetMember } from '../../model/kinds/set-member.ts';
import { SET_PREFIX } from '../../model/linux-names.ts';
import { collectSets, dumpSets, type SetListing } from '../../netlink/ipset.ts';
import type { SetEntry as NetlinkSetEntry } from '../../netlink/ipset-entry.ts';
import { NETLINK_NETFILTER } from '../driver/transport.ts';
import { isManagedHere, type Observer } from '../observe/observer.ts';

/** Of a mark that replaces the whole mark of a packet. */
export const ALL_BITS = 0xffff_ffff;
const HASH_TYPES: readonly HashSet['type'][] = ['hash:ip', 'hash:net,port', 'hash:net,port,net'];

/** One dump lists sets and their elements. */
export const observeSets: Observer = async (scan) => {
  const { transport, netns, includes } = scan;
  if (!isManagedHere(scan, 'ipset', 'set-member', 'set-entry')) return [];
  const headerOnly = !includes('set-member') && !includes('set-entry');
  const sets = collectSets(await transport.dump(netns, NETLINK_NETFILTER, dumpSets({ headerOnly })));
  if (!sets.ok) throw sets.error;
  const ours = sets.value.filter(({ name }) => name.startsWith(SET_PREFIX));
  return ours.flatMap((listing) => [
    ...(includes('ipset') ? [setObject(netns, listing)] : []),
    ...(headerOnly ? [] : elements(netns, listing).filter(({ kind }) => includes(kind))),
  ]);
};

function setObject(netns: string, listing: SetListing): IpSet {
  const { name, type, range, family, skbinfo } = listing;
  const head = { kind: 'ipset' as const, netns, name, skbinfo };
  const hash = HASH_TYPES.find((known) => known === type);
  if (hash !== undefined && family !== undefined) return { ...head, type: hash, family };
  if (type === 'bitmap:port' && range !== undefined) return { ...head, type, range };
  return { ...head, type: 'bitmap:port', range: { from: 0, to: 0 }, foreign: [`type ${type}`] };
}

function elements(netns: string, listing: SetListing): (SetMember | SetEntry)[] {
  return listing.entries.flatMap((entry): (SetMember | SetEntry)[] => {
    if (entry.address !== undefined) return [entryObject(netns, listing.name, entry.address, entry)];
    const { port, skbMark } = entry;
    if (port === undefined) return [];
    const member = { kind: 'set-member' as const, netns, set: listing.name, port };
    if (!listing.skbinfo || skbMark === undefined) return [member];
    const { mark, mask } = skbMark;
    return [mask === ALL_BITS ? { ...member, mark } : { ...member, foreign: [`skbmark ${mark}/${mask}`] }];
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

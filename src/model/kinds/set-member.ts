import type { Protocol } from '../address.ts';
import { LB_NETNS, publishedSet, serviceSet } from '../linux-names.ts';
import { number, optional, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { insideNetns, setThing } from './things.ts';
import { serviceKey } from './virtual-service.ts';
import { execPrefix, hex, IPSET_VERB } from './words.ts';

/** An element of a bitmap:port. */
export interface SetMember extends ObjectBase {
  kind: 'set-member';
  set: string;
  port: number;
  /** Mark handed to the packet; the mask is 0xffffffff. Only in sets with skbinfo. */
  mark?: number;
}

export const setMember = defineKind<SetMember>({
  kind: 'set-member',
  fields: { set: text, port: number, mark: optional(number) },
  key: ({ netns, set, port }) => setMemberKey(netns, set, port),
  stage: ({ netns }) => (netns === LB_NETNS ? 'marks' : 'published ports'),
  inside: ({ netns, set }) => [...insideNetns(netns), setThing(netns, set)],
  /** A port is accepted only when everything behind it exists: service, then its mark, then the host's DNAT. */
  after({ netns, set, port, mark }) {
    if (mark !== undefined) {
      return [
        serviceKey({ netns, family: 'inet', fwmark: mark }),
        serviceKey({ netns, family: 'inet6', fwmark: mark }),
      ];
    }
    const protocol = (['tcp', 'udp', 'sctp'] as const).find((candidate) => publishedSet(candidate) === set);
    return protocol === undefined ? [] : [markEntryKey(protocol, port)];
  },
  commands({ netns, set, port, mark }, verb) {
    const markWords = mark === undefined || verb === 'delete' ? '' : ` skbmark ${hex(mark)}`;
    return [`${execPrefix(netns)}ipset ${IPSET_VERB[verb]} ${set} ${port}${markWords}`];
  },
});

/** Joined, because there are tens of thousands: the pieces of a template stay in memory with the whole. */
export function setMemberKey(netns: string, set: string, port: number): string {
  return ['set-member', netns, set, port].join(' ');
}

/** The entry that gives a published port its fwmark in the lb. */
export function markEntryKey(protocol: Protocol, port: number): string {
  return setMemberKey(LB_NETNS, serviceSet(protocol), port);
}

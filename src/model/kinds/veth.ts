import { flag, number, shape, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { insideNetns, linkThing } from './things.ts';
import { ip, netnsArgument } from './words.ts';

interface LinkEnd {
  netns: string;
  name: string;
  mtu: number;
  up: boolean;
}

/** Both ends of a veth pair: one object, for the kernel makes and destroys them together. Identity: `netns` + `name`. */
export interface VethPair extends ObjectBase, LinkEnd {
  kind: 'veth';
  peer: LinkEnd;
}

const end = { name: text, mtu: number, up: flag };

export const veth = defineKind<VethPair>({
  kind: 'veth',
  fields: { ...end, peer: shape({ netns: text, ...end }) },
  key: ({ netns, name }) => linkThing(netns, name),
  stage: 'link pairs',
  fixedFields: ['peer.netns', 'peer.name'],
  provides: ({ netns, name, peer }) => [linkThing(netns, name), linkThing(peer.netns, peer.name)],
  // A netns is cleaned up later than it is deleted, and lives as long as a process in it: so the pair is taken down by
  // its own name before the namespace of its far end, and only dies with its near end.
  after: ({ peer }) => insideNetns(peer.netns),
  // Observed with its far end in a missing netns: that name was removed, the pair may still exist.
  halves: ({ peer }) => insideNetns(peer.netns),
  commands(object, verb) {
    const { netns, name, mtu, up, peer } = object;
    if (verb === 'delete') return [`${ip(netns)} link del ${name}`];
    if (verb === 'change') return [setLink(object), setLink(peer)];
    // Not `up` at once: the kernel opens a veth only when its pair is complete (ENOTCONN).
    return [
      `${ip(netns)} link add ${name} mtu ${mtu} type veth` +
        ` peer name ${peer.name} mtu ${peer.mtu} netns ${netnsArgument(peer.netns)}`,
      ...(up ? [`${ip(netns)} link set ${name} up`] : []),
      ...(peer.up ? [`${ip(peer.netns)} link set ${peer.name} up`] : []),
    ];
  },
});

function setLink({ netns, name, mtu, up }: LinkEnd): string {
  return `${ip(netns)} link set ${name} mtu ${mtu} ${up ? 'up' : 'down'}`;
}

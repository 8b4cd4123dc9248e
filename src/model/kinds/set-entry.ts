import { type Cidr, familyOf, type Protocol } from '../address.ts';
import { either, number, oneOf, optional, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { markEntryKey } from './set-member.ts';
import { insideNetns, setThing } from './things.ts';
import { execPrefix, IPSET_VERB } from './words.ts';

/** An element of a hash set; which fields it has depends on the set's type. ipset has no /0: add both halves. */
export interface SetEntry extends ObjectBase {
  kind: 'set-entry';
  set: string;
  /** One address is a network of full prefix length. */
  network: Cidr;
  /** A number only where another program used a protocol that meshd never does. */
  protocol?: Protocol | number;
  port?: number;
  /** The last dimension of hash:net,port,net. */
  network2?: Cidr;
}

export const setEntry = defineKind<SetEntry>({
  kind: 'set-entry',
  fields: {
    set: text,
    network: text,
    protocol: optional(either(oneOf('tcp', 'udp', 'sctp'), number)),
    port: optional(number),
    network2: optional(text),
  },
  key({ netns, set, network, protocol, port, network2 }) {
    const service = port === undefined ? '' : `,${protocol}:${port}`;
    return `set-entry ${netns} ${set} ${network}${service}${network2 === undefined ? '' : `,${network2}`}`;
  },
  // A peer that may send is part of the path to it; a client that may connect is traffic.
  stage: ({ port }) => (port === undefined ? 'peers in sets' : 'clients in sets'),
  inside: ({ netns, set }) => [...insideNetns(netns), setThing(netns, set)],
  after: ({ protocol, port }) =>
    port === undefined || typeof protocol !== 'string' ? [] : [markEntryKey(protocol, port)],
  commands({ netns, set, network, protocol, port, network2, foreign }, verb) {
    const element = [
      withoutFullPrefix(network),
      ...(port === undefined ? [] : [`${protocol}:${port}`]),
      ...(network2 === undefined ? [] : [network2]),
    ].join(',');
    const noMatch = verb !== 'delete' && foreign?.includes(NO_MATCH) ? ` ${NO_MATCH}` : '';
    return [`${execPrefix(netns)}ipset ${IPSET_VERB[verb]} ${set} ${element}${noMatch}`];
  },
});

/** In `foreign`: an exception from wider networks of the set. */
export const NO_MATCH = 'nomatch';

function withoutFullPrefix(network: Cidr): string {
  return network.endsWith(familyOf(network) === 'inet' ? '/32' : '/128')
    ? network.slice(0, network.indexOf('/'))
    : network;
}

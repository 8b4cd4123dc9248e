import type { IpAddress, MacAddress } from '../address.ts';
import { text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { insideLink } from './things.ts';
import { IP_VERB, ip } from './words.ts';

/** A permanent neighbour entry. */
export interface Neighbour extends ObjectBase {
  kind: 'neighbour';
  dev: string;
  address: IpAddress;
  mac: MacAddress;
}

export const neighbour = defineKind<Neighbour>({
  kind: 'neighbour',
  fields: { dev: text, address: text, mac: text },
  key: ({ netns, dev, address }) => neighbourKey(netns, dev, address),
  stage: 'neighbours',
  inside: ({ netns, dev }) => insideLink(netns, dev),
  commands({ netns, dev, address, mac }, verb) {
    const entry = verb === 'delete' ? `${address} dev ${dev}` : `${address} lladdr ${mac} dev ${dev} nud permanent`;
    return [`${ip(netns)} neigh ${IP_VERB[verb]} ${entry}`];
  },
});

export function neighbourKey(netns: string, dev: string, address: IpAddress): string {
  return `neighbour ${netns} ${dev} ${address}`;
}

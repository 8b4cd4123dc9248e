import { familyOf, type IpAddress } from '../address.ts';
import { number, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { insideLink, localThing } from './things.ts';
import { IP_VERB, ip } from './words.ts';

export interface AddressObject extends ObjectBase {
  kind: 'address';
  dev: string;
  address: IpAddress;
  prefix: number;
}

export const address = defineKind<AddressObject>({
  kind: 'address',
  fields: { dev: text, address: text, prefix: number },
  key: addressKey,
  stage: 'addresses',
  provides: (object) => [
    `address ${object.netns} ${object.dev} ${object.address}`,
    localThing(object.netns, object.address),
  ],
  inside: ({ netns, dev }) => insideLink(netns, dev),
  commands(object, verb) {
    // Duplicate address detection would keep a new IPv6 address unusable for a second or two.
    const nodad = familyOf(object.address) === 'inet6' && verb !== 'delete' ? ' nodad' : '';
    return [`${ip(object.netns)} addr ${IP_VERB[verb]} ${object.address}/${object.prefix} dev ${object.dev}${nodad}`];
  },
});

export function addressKey({ netns, dev, address, prefix }: Omit<AddressObject, 'kind'>): string {
  return `address ${netns} ${dev} ${address}/${prefix}`;
}

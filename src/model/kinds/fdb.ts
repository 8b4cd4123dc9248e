import type { IpAddress, MacAddress } from '../address.ts';
import { number, optional, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { insideLink } from './things.ts';
import { IP_VERB, inNetns } from './words.ts';

/** Where a VXLAN device sends frames for a MAC address; `vni` when it is not the device's own, as in all of ours. */
export interface FdbEntry extends ObjectBase {
  kind: 'fdb';
  dev: string;
  mac: MacAddress;
  dst: IpAddress;
  vni?: number;
}

export const fdb = defineKind<FdbEntry>({
  kind: 'fdb',
  fields: { dev: text, mac: text, dst: text, vni: optional(number) },
  key: ({ netns, dev, mac }) => fdbKey(netns, dev, mac),
  stage: 'forwarding entries',
  inside: ({ netns, dev }) => insideLink(netns, dev),
  commands: ({ netns, dev, mac, dst, vni }, verb) => [
    `${inNetns('bridge', netns)} fdb ${IP_VERB[verb]} ${mac} dev ${dev} dst ${dst}${vni === undefined ? '' : ` vni ${vni}`}`,
  ],
});

export function fdbKey(netns: string, dev: string, mac: MacAddress): string {
  return `fdb ${netns} ${dev} ${mac}`;
}

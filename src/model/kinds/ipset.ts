import type { Family } from '../address.ts';
import { SET_PREFIX } from '../linux-names.ts';
import { family, flag, number, oneOf, optional, shape, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { setThing } from './things.ts';
import { execPrefix } from './words.ts';

export type IpSet = PortSet | HashSet;

interface PortSet extends ObjectBase {
  kind: 'ipset';
  name: string;
  type: 'bitmap:port';
  range: { from: number; to: number };
  skbinfo: boolean;
}

/** Its elements are `set-entry`, those of a bitmap:port `set-member`. */
export interface HashSet extends ObjectBase {
  kind: 'ipset';
  name: string;
  type: 'hash:ip' | 'hash:net,port' | 'hash:net,port,net';
  family: Family;
  skbinfo: boolean;
}

export const ipset = defineKind<IpSet>({
  kind: 'ipset',
  fields: {
    name: text,
    type: oneOf('bitmap:port', 'hash:ip', 'hash:net,port', 'hash:net,port,net'),
    skbinfo: flag,
    ...{ range: optional(shape({ from: number, to: number })), family: optional(family) },
  },
  key: ({ netns, name }) => setKey(netns, name),
  stage: 'sets',
  isOurs: ({ name }) => name.startsWith(SET_PREFIX),
  fixedFields: ['type', 'range', 'family', 'skbinfo'],
  provides: 'key',
  commands(object, verb) {
    const { netns, name, type } = object;
    if (verb === 'delete') return [`${execPrefix(netns)}ipset destroy ${name}`];
    const shapeWords =
      object.type === 'bitmap:port' ? `range ${object.range.from}-${object.range.to}` : `family ${object.family}`;
    return [`${execPrefix(netns)}ipset create ${name} ${type} ${shapeWords}${object.skbinfo ? ' skbinfo' : ''}`];
  },
});

export function setKey(netns: string, name: string): string {
  return setThing(netns, name);
}

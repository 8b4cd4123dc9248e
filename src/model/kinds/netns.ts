import { NETNS_PREFIX } from '../linux-names.ts';
import { flag } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { netnsThing } from './things.ts';
import { ip } from './words.ts';

/** A named network namespace with its loopback up. */
export interface Netns extends ObjectBase {
  kind: 'netns';
  loopbackUp: boolean;
}

export const netns = defineKind<Netns>({
  kind: 'netns',
  fields: { loopbackUp: flag },
  key: (object) => netnsThing(object.netns),
  stage: 'namespaces',
  isOurs: (object) => object.netns.startsWith(NETNS_PREFIX),
  provides: 'key',
  inside: () => [],
  commands(object, verb) {
    if (verb === 'delete') return [`ip netns delete ${object.netns}`];
    const loopback = `${ip(object.netns)} link set lo ${object.loopbackUp ? 'up' : 'down'}`;
    if (verb === 'change') return [loopback];
    return [`ip netns add ${object.netns}`, ...(object.loopbackUp ? [loopback] : [])];
  },
});

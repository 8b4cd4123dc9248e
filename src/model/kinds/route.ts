import { type Cidr, familyOf, type IpAddress } from '../address.ts';
import { ROUTE_PROTOCOL } from '../linux-names.ts';
import { flag, number, oneOf, optional, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { insideLink, localThing } from './things.ts';
import { IP_VERB, ip } from './words.ts';

export interface Route extends ObjectBase {
  kind: 'route';
  type: 'unicast' | 'local';
  /** `0.0.0.0/0` and `::/0` for default. */
  destination: Cidr;
  /** 254 is main. */
  table: number;
  dev: string;
  via?: IpAddress;
  onlink: boolean;
  scope: 'global' | 'link' | 'host';
  source?: IpAddress;
}

/** RT_TABLE_MAIN, include/uapi/linux/rtnetlink.h. */
const MAIN_TABLE = 254;

export const route = defineKind<Route>({
  kind: 'route',
  fields: {
    type: oneOf('unicast', 'local'),
    destination: text,
    table: number,
    dev: text,
    via: optional(text),
    onlink: flag,
    scope: oneOf('global', 'link', 'host'),
    source: optional(text),
  },
  key: ({ netns, table, destination }) => routeKey(netns, table, destination),
  stage: ({ via }) => (via === undefined ? 'on-link routes' : 'gateway routes'),
  inside(object) {
    const link = insideLink(object.netns, object.dev);
    return object.source !== undefined && isIpv4(object) ? [...link, localThing(object.netns, object.source)] : link;
  },
  // Losing its preferred source ends an IPv4 route (fib_sync_down_addr); IPv6 only forgets the source.
  after: (object) => (object.source === undefined || isIpv4(object) ? [] : [localThing(object.netns, object.source)]),
  commands(object, verb) {
    const words = routeWords(object, IP_VERB[verb]);
    // Several routes of one destination and table differ in what another program gave them; each is deleted by that.
    if (verb !== 'delete' || object.foreign === undefined) return [words];
    return object.foreign.map((word) => `${words} ${word}`);
  },
});

export function routeKey(netns: string, table: number, destination: Cidr): string {
  return `route ${netns} ${table} ${destination}`;
}

function isIpv4({ destination }: Route): boolean {
  return familyOf(destination) === 'inet';
}

function routeWords(object: Route, verb: string): string {
  const { netns, destination, via, source, table } = object;
  const family = familyOf(destination);
  return [
    `${ip(netns, family)} route ${verb}${object.type === 'local' ? ' local' : ''}`,
    destination === '0.0.0.0/0' || destination === '::/0' ? 'default' : destination,
    ...(via === undefined ? [] : [`via ${via}`]),
    `dev ${object.dev}`,
    ...(object.onlink ? ['onlink'] : []),
    ...(table === MAIN_TABLE ? [] : [`table ${table}`]),
    ...(source === undefined ? [] : [`src ${source}`]),
    ...(family === 'inet' ? [`scope ${object.scope}`] : []),
    `proto ${ROUTE_PROTOCOL}`,
  ].join(' ');
}

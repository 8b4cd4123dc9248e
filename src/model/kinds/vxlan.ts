import type { IpAddress, MacAddress } from '../address.ts';
import { flag, number, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { insideNetns, linkThing } from './things.ts';
import { ip, netnsArgument } from './words.ts';

/** Lives in `netns`; its UDP socket stays in `underlayNetns`. Learning off, group policy (GBP) on. */
export interface Vxlan extends ObjectBase {
  kind: 'vxlan';
  name: string;
  underlayNetns: string;
  vni: number;
  local: IpAddress;
  port: number;
  mac: MacAddress;
  mtu: number;
  up: boolean;
  gbp: boolean;
  learning: boolean;
}

export const vxlan = defineKind<Vxlan>({
  kind: 'vxlan',
  fields: {
    name: text,
    underlayNetns: text,
    vni: number,
    local: text,
    port: number,
    mac: text,
    mtu: number,
    up: flag,
    gbp: flag,
    learning: flag,
  },
  // A veth pair and a VXLAN device share one space of names.
  key: ({ netns, name }) => linkThing(netns, name),
  stage: 'tunnels',
  fixedFields: ['underlayNetns', 'vni', 'local', 'port', 'gbp', 'learning'],
  provides: 'key',
  after: ({ underlayNetns }) => insideNetns(underlayNetns),
  commands({ netns, name, underlayNetns, ...device }, verb) {
    if (verb === 'delete') return [`${ip(netns)} link del ${name}`];
    const settings = `address ${device.mac} mtu ${device.mtu}`;
    if (verb === 'change') return [`${ip(netns)} link set ${name} ${settings} ${device.up ? 'up' : 'down'}`];
    // Made from the underlay's netns straight into its own: the UDP socket stays on the underlay.
    return [
      `${ip(underlayNetns)} link add ${name} netns ${netnsArgument(netns)} ${settings}${device.up ? ' up' : ''}` +
        ` type vxlan id ${device.vni} local ${device.local} dstport ${device.port}` +
        `${device.learning ? '' : ' nolearning'}${device.gbp ? ' gbp' : ''}`,
    ];
  },
});

import { deleteLink, newLink, setLink } from '../../netlink/link.ts';
import { routeStep } from '../driver/steps.ts';
import { ERRNO_CODES, tryModprobe } from './failure-codes.ts';
import { linkName, netnsNames } from './kernel-rules.ts';
import type { LinuxKind, OpOf } from './kind.ts';
import { LINK_EVENTS, observeLinks } from './links.ts';

/** vxlan_nl2conf() answers EOPNOTSUPP to a changed id or port; the socket cannot move. */
const FIXED_FIELDS = ['underlayNetns', 'vni', 'local', 'port', 'gbp', 'learning'] as const;

/**
 * A vxlan device keeps its UDP socket in the netns it was made from: the request goes to the underlay's netns and makes
 * the device in its own (rtnl_newlink hands the socket's netns to vxlan_newlink as src_net), up and configured at once.
 */
export const vxlanKind: LinuxKind<'vxlan'> = {
  steps({ verb, object }: OpOf<'vxlan'>) {
    const { netns, name, underlayNetns, mtu, mac, up, vni, local, port, gbp, learning } = object;
    const changedLinks = [`${netns} ${name}`];
    if (verb === 'delete') return [routeStep(netns, () => deleteLink({ name }), [], changedLinks)];
    if (verb === 'change') return [routeStep(netns, () => setLink({ name }, { mtu, mac, up }))];
    const create = routeStep(
      underlayNetns,
      ({ fd }) => {
        const place = netns === underlayNetns ? {} : { netns: { fd: fd(netns) } };
        return newLink({ name, mtu, mac, up, ...place, config: { kind: 'vxlan', vni, local, port, gbp, learning } });
      },
      [],
      changedLinks,
    );
    return [create];
  },
  observer: observeLinks,
  events: LINK_EVENTS,
  audit: 'notified',
  related: ['link', 'network'],
  failures: ERRNO_CODES,
  remedy({ object }, code) {
    if (code === 'EEXIST') {
      return `another vxlan device uses VNI ${object.vni} on port ${object.port}: see \`ip -d link show type vxlan\``;
    }
    if (code === 'EADDRINUSE') {
      return `another program or a vxlan device without gbp uses UDP port ${object.port}: see \`ss -lunp sport = :${object.port}\``;
    }
    return code === 'EOPNOTSUPP' ? tryModprobe('vxlan') : undefined;
  },
  links: ({ netns, name, mtu, up, mac }) => [{ netns, name, mtu, up, mac }],
  rules: {
    names: ({ netns, name }) => [linkName(netns, name)],
    // vxlan_exit_net removes the devices in a netns and those whose socket is there.
    livesIn: ({ netns, underlayNetns }) => netnsNames(netns, underlayNetns),
    canChange: (before, after) => FIXED_FIELDS.every((field) => before[field] === after[field]),
  },
};

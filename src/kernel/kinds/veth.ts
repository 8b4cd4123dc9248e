import type { VethPair } from '../../model/kinds/veth.ts';
import { deleteLink, newLink, setLink } from '../../netlink/link.ts';
import { type NetlinkStep, routeStep } from '../driver/steps.ts';
import { ERRNO_CODES, tryModprobe } from './failure-codes.ts';
import { linkName, netnsNames } from './kernel-rules.ts';
import type { LinuxKind, OpOf } from './kind.ts';
import { LINK_EVENTS, observeLinks } from './links.ts';

/** Both ends of a veth pair. */
export const vethKind: LinuxKind<'veth'> = {
  steps(op: OpOf<'veth'>) {
    if (op.verb === 'create') return createPair(op.object);
    if (op.verb === 'change') return changePair(op.object, op.before);
    const { netns, name } = op.object;
    return [routeStep(netns, () => deleteLink({ name }), [], endNames(op.object))];
  },
  observer: observeLinks,
  events: LINK_EVENTS,
  audit: 'notified',
  related: ['link', 'network'],
  failures: ERRNO_CODES,
  remedy: (_, code) => (code === 'EOPNOTSUPP' ? tryModprobe('veth') : undefined),
  links: ({ netns, name, mtu, up, peer }) => [{ netns, name, mtu, up }, peer],
  rules: {
    names: ({ netns, name, peer }) => [linkName(netns, name), linkName(peer.netns, peer.name)],
    // Deleting one end deletes the other (veth_dellink).
    livesIn: ({ netns, peer }) => netnsNames(netns, peer.netns),
    canChange: (before, { peer }) => before.peer.netns === peer.netns && before.peer.name === peer.name,
  },
};

function createPair(pair: VethPair): NetlinkStep[] {
  const { netns, name, mtu, up, peer } = pair;
  const create = routeStep(
    netns,
    ({ fd }) => {
      const far = { name: peer.name, mtu: peer.mtu };
      const place = peer.netns === netns ? {} : { netns: { fd: fd(peer.netns) } };
      return newLink({ name, mtu, up, config: { kind: 'veth', peer: { ...far, ...place } } });
    },
    [],
    endNames(pair),
  );
  // The kernel opens no end before both exist (veth_open, ENOTCONN), so the far one is set up afterwards.
  return peer.up ? [create, setEnd(peer)] : [create];
}

function changePair(pair: VethPair, before: VethPair): NetlinkStep[] {
  const steps: NetlinkStep[] = [];
  if (before.mtu !== pair.mtu || before.up !== pair.up) steps.push(setEnd(pair));
  if (before.peer.mtu !== pair.peer.mtu || before.peer.up !== pair.peer.up) steps.push(setEnd(pair.peer));
  return steps;
}

function setEnd({ netns, name, mtu, up }: VethPair['peer']): NetlinkStep {
  return routeStep(netns, () => setLink({ name }, { mtu, up }));
}

function endNames({ netns, name, peer }: VethPair): string[] {
  return [`${netns} ${name}`, `${peer.netns} ${peer.name}`];
}

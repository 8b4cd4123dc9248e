import { MeshError } from '../base/errors.ts';
import { type Cidr, familyOf, type IpAddress } from '../model/address.ts';
import { hostPrefix } from '../model/block.ts';
import type { KernelObject, Op, SetEntry, VethPair, Vxlan } from '../model/kernel-state.ts';
import { ROUTE_PROTOCOL } from '../model/names.ts';
import { deleteAddress, IFA_F_NODAD, newAddress } from '../netlink/address.ts';
import { addEntry, createSet, deleteEntry, destroySet } from '../netlink/ipset.ts';
import type { SetEntry as NetlinkSetEntry } from '../netlink/ipset-entry.ts';
import {
  deleteService,
  IP_VS_SVC_F_PERSISTENT,
  newService,
  schedulerBits,
  setConfig,
  setService,
} from '../netlink/ipvs.ts';
import { deleteDestination, newDestination, setDestination } from '../netlink/ipvs-destination.ts';
import { deleteLink, newLink, setLink } from '../netlink/link.ts';
import type { CreateMode, NetlinkRequest } from '../netlink/message.ts';
import { deleteFdb, deleteNeighbour, newFdb, newNeighbour } from '../netlink/neighbour.ts';
import { deleteRoute, newRoute } from '../netlink/route.ts';
import { deleteRule, newRule } from '../netlink/rule.ts';
import type { FirewallOp } from './firewall-text.ts';
import { ipvsKey } from './ipvs.ts';
import { oddRoutes } from './odd-routes.ts';
import type { ShortcutOp } from './shortcuts.ts';
import { NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE } from './transport.ts';

/** What a request needs to know of the kernel when it is written. */
export interface Surroundings {
  /** ifindex of a link in the step's netns; throws when there is none. */
  index(name: string): number;
  /** Open descriptor of a netns; throws when there is none. */
  fd(netns: string): number;
  /** Number of the IPVS family. */
  genl: number;
}

/** One thing to do for an Op, by the means it takes. */
export type Step =
  | NetlinkStep
  | { lane: 'namespace'; netns: string; act: 'create' | 'remove' }
  | { lane: 'sysctl'; netns: string; name: string; value: string }
  | { lane: 'firewall'; netns: string; op: FirewallOp }
  | { lane: 'shortcut'; netns: string; op: ShortcutOp };

export interface NetlinkStep {
  lane: 'netlink';
  /** Where the socket is. */
  netns: string;
  protocol: number;
  /** Links of that netns the request names by ifindex. */
  uses: readonly string[];
  /** Links, as `netns name`, that come or go with it. */
  moves: readonly string[];
  /** The request for an Op that takes this step. */
  write(around: Surroundings, op: Op): NetlinkRequest;
}

type Verb = Op['verb'];
type Of<K extends KernelObject['kind']> = Extract<KernelObject, { kind: K }>;
const LOOPBACK = { index: 1 };
const NOTHING: readonly string[] = [];
const ALL_BITS = 0xffff_ffff;

/** What an Op takes, in order. */
export function stepsOf(op: Op): Step[] {
  const { object } = op;
  const before = op.verb === 'change' ? op.before : object;
  switch (object.kind) {
    case 'netns':
      return netnsSteps(op.verb, object.netns, object.loopbackUp);
    case 'veth':
      return op.verb === 'change' ? changeVeth(object, before) : vethSteps(op.verb, object);
    case 'vxlan':
      return [vxlanStep(op.verb, object)];
    case 'sysctl':
      // What a sysctl was before it was ours nobody knows.
      return op.verb === 'delete'
        ? []
        : [{ lane: 'sysctl', netns: object.netns, name: object.name, value: object.value }];
    case 'chain':
      return [{ lane: 'firewall', netns: object.netns, op: { verb: op.verb, object } }];
    case 'jump':
      return [{ lane: 'firewall', netns: object.netns, op: { verb: op.verb, object } }];
    case 'rule':
      // A rule has no change: two of one priority stand side by side.
      if (before.kind === 'rule' && op.verb === 'change') {
        return [routingStep('delete', before), routingStep('create', object)];
      }
      return [routingStep(op.verb, object)];
    case 'route':
      return routeSteps(op.verb, object, before.kind === 'route' ? before : object);
    case 'address':
    case 'neighbour':
    case 'fdb':
      return [routingStep(op.verb, object)];
    case 'ipset':
    case 'set-member':
    case 'set-entry':
      return linkless(shared.sets, object.netns, NETLINK_NETFILTER, writeSet);
    case 'ipvs-timeouts':
      return op.verb === 'delete' ? [] : linkless(shared.balancers, object.netns, NETLINK_GENERIC, writeBalancer);
    case 'virtual-service':
    case 'real-server':
      return linkless(shared.balancers, object.netns, NETLINK_GENERIC, writeBalancer);
    case 'shortcut':
    case 'shortcut-task':
    case 'shortcut-port':
    case 'shortcut-peer':
      return [{ lane: 'shortcut', netns: object.netns, op: { verb: op.verb, object } }];
  }
}

function route(
  netns: string,
  write: NetlinkStep['write'],
  uses: readonly string[] = NOTHING,
  moves: readonly string[] = NOTHING,
): NetlinkStep {
  return { lane: 'netlink', netns, protocol: NETLINK_ROUTE, uses, moves, write };
}

function netnsSteps(verb: Verb, netns: string, loopbackUp: boolean): Step[] {
  if (verb === 'delete') return [{ lane: 'namespace', netns, act: 'remove' }];
  const loopback = route(netns, () => setLink(LOOPBACK, { up: loopbackUp }));
  if (verb === 'change') return [loopback];
  return loopbackUp
    ? [{ lane: 'namespace', netns, act: 'create' }, loopback]
    : [{ lane: 'namespace', netns, act: 'create' }];
}

function vethSteps(verb: 'create' | 'delete', pair: VethPair): Step[] {
  const { netns, name, mtu, up, peer } = pair;
  const ends = [`${netns} ${name}`, `${peer.netns} ${peer.name}`];
  if (verb === 'delete') return [route(netns, () => deleteLink({ name }), [], ends)];
  const make = route(
    netns,
    ({ fd }) => {
      const far = { name: peer.name, mtu: peer.mtu };
      const place = peer.netns === netns ? {} : { netns: { fd: fd(peer.netns) } };
      return newLink({ name, mtu, up, config: { kind: 'veth', peer: { ...far, ...place } } });
    },
    [],
    ends,
  );
  // The kernel opens no end before both are there (veth_open, ENOTCONN), so the far one comes up afterwards.
  return peer.up ? [make, setEnd(peer)] : [make];
}

function setEnd({ netns, name, mtu, up }: VethPair['peer']): NetlinkStep {
  return route(netns, () => setLink({ name }, { mtu, up }));
}

function changeVeth(pair: VethPair, before: KernelObject): Step[] {
  const old = before.kind === 'veth' ? before : undefined;
  const steps: Step[] = [];
  if (old?.mtu !== pair.mtu || old.up !== pair.up) steps.push(setEnd(pair));
  if (old?.peer.mtu !== pair.peer.mtu || old.peer.up !== pair.peer.up) steps.push(setEnd(pair.peer));
  return steps;
}

/**
 * A vxlan device keeps its UDP socket in the netns it was made from: the request goes to the underlay's netns and makes
 * the device in its own (rtnl_newlink hands the socket's netns to vxlan_newlink as src_net), up and configured at once.
 */
function vxlanStep(verb: Verb, vxlan: Vxlan): NetlinkStep {
  const { netns, name, underlayNetns, mtu, mac, up, vni, local, port, gbp, learning } = vxlan;
  const moves = [`${netns} ${name}`];
  if (verb === 'delete') return route(netns, () => deleteLink({ name }), [], moves);
  if (verb === 'change') return route(netns, () => setLink({ name }, { mtu, mac, up }));
  return route(
    underlayNetns,
    ({ fd }) => {
      const place = netns === underlayNetns ? {} : { netns: { fd: fd(netns) } };
      return newLink({ name, mtu, mac, up, ...place, config: { kind: 'vxlan', vni, local, port, gbp, learning } });
    },
    [],
    moves,
  );
}

/** Somebody else's routes in the place of ours go by what they have in common with it, one by one. */
function routeSteps(verb: Verb, object: Of<'route'>, before: Of<'route'>): Step[] {
  const count = verb === 'create' ? 0 : oddRoutes(before.dev);
  if (count === 0) return [routingStep(verb, object)];
  const { netns, destination, table } = before;
  const away = route(netns, () => deleteRoute({ destination, table, protocol: ROUTE_PROTOCOL }));
  const gone: Step[] = Array.from({ length: count }, () => away);
  return verb === 'delete' ? gone : [...gone, routingStep('create', object)];
}

/** Addresses, neighbours, FDB entries, routes and rules: `change` replaces what has the same key. */
function routingStep(verb: Verb, object: Of<'address' | 'neighbour' | 'fdb' | 'route' | 'rule'>): NetlinkStep {
  const mode: CreateMode = verb === 'change' ? 'replace' : 'create';
  const remove = verb === 'delete';
  switch (object.kind) {
    case 'address': {
      const { netns, dev, address, prefix } = object;
      const flags = address.includes(':') ? IFA_F_NODAD : undefined;
      return route(
        netns,
        ({ index }) =>
          remove
            ? deleteAddress({ index: index(dev), address, prefix })
            : newAddress({ index: index(dev), address, prefix, flags }, mode),
        [dev],
      );
    }
    case 'neighbour': {
      const { netns, dev, address, mac } = object;
      return route(
        netns,
        ({ index }) =>
          remove
            ? deleteNeighbour({ index: index(dev), address })
            : // Always in place of what is there: the kernel may have begun to look for it by itself (NUD_INCOMPLETE,
              // NUD_FAILED), and such entries are nobody's.
              newNeighbour({ index: index(dev), address, mac }, 'replace'),
        [dev],
      );
    }
    case 'fdb': {
      const { netns, dev, mac, dst, vni } = object;
      return route(
        netns,
        ({ index }) =>
          remove ? deleteFdb({ index: index(dev), mac }) : newFdb({ index: index(dev), mac, dst, vni }, mode),
        [dev],
      );
    }
    case 'route': {
      const { netns, destination, table, dev, via, onlink, scope, source, type } = object;
      return route(
        netns,
        ({ index }) => {
          const spec = {
            destination,
            table,
            type,
            via,
            onlink,
            scope,
            source,
            protocol: ROUTE_PROTOCOL,
            index: index(dev),
          };
          return remove ? deleteRoute(spec) : newRoute(spec, mode);
        },
        [dev],
      );
    }
    case 'rule': {
      const { netns, family, priority, fwmark, fwmask, action } = object;
      const spec = { family, priority, fwmark, fwmask, action };
      return route(netns, () => (remove ? deleteRule(spec) : newRule(spec)));
    }
  }
}

/** Of requests that name no link and say all by their Op there may be 100,000: they share one step a netns and protocol. */
const shared = { sets: new Map<string, Step[]>(), balancers: new Map<string, Step[]>() };

function linkless(known: Map<string, Step[]>, netns: string, protocol: number, write: NetlinkStep['write']): Step[] {
  let steps = known.get(netns);
  if (steps === undefined) {
    steps = [{ lane: 'netlink', netns, protocol, uses: NOTHING, moves: NOTHING, write }];
    known.set(netns, steps);
  }
  return steps;
}

/** Of a hash set; the kernel takes room for elements as they come, and 65536 by default. */
const MAX_ELEMENTS = 1 << 20;

function writeSet(_around: Surroundings, { verb, object }: Op): NetlinkRequest {
  if (object.kind !== 'ipset' && object.kind !== 'set-member' && object.kind !== 'set-entry') throw misplaced(object);
  if (object.kind === 'ipset') {
    const { name, type, skbinfo } = object;
    const shape =
      object.type === 'bitmap:port' ? { range: object.range } : { family: object.family, maxElements: MAX_ELEMENTS };
    return verb === 'delete' ? destroySet(name) : createSet({ name, type, skbinfo, ...shape });
  }
  const entry = object.kind === 'set-entry' ? entryOf(object) : memberOf(object);
  if (verb === 'delete') return deleteEntry(object.set, entry);
  // Adding again without NLM_F_EXCL updates the mark in place.
  return addEntry(object.set, entry, verb === 'change' ? 'ensure' : 'create');
}

function memberOf({ port, mark }: Of<'set-member'>): NetlinkSetEntry {
  return mark === undefined ? { port } : { port, skbMark: { mark, mask: ALL_BITS } };
}

function entryOf({ network, protocol, port, network2, exception }: SetEntry): NetlinkSetEntry {
  const [address, prefix] = partsOf(network);
  const [address2, prefix2] = network2 === undefined ? [] : partsOf(network2);
  return { address, prefix, protocol, port, address2, prefix2, noMatch: exception };
}

/** Without its prefix length when that is the full one: types of single addresses take none. */
function partsOf(network: Cidr): [IpAddress, number?] {
  const [address = '', prefix = ''] = network.split('/');
  return Number(prefix) === hostPrefix(familyOf(network)) ? [address] : [address, Number(prefix)];
}

function writeBalancer({ genl }: Surroundings, { verb, object }: Op): NetlinkRequest {
  switch (object.kind) {
    case 'ipvs-timeouts':
      return setConfig(genl, object);
    case 'virtual-service': {
      const { scheduler, flags = [], persistence } = object;
      const key = ipvsKey(object);
      if (verb === 'delete') return deleteService(genl, key);
      const put = verb === 'create' ? newService : setService;
      return put(genl, key, {
        scheduler,
        flags: schedulerBits(flags) | (persistence === undefined ? 0 : IP_VS_SVC_F_PERSISTENT),
        timeout: persistence?.timeout,
        persistencePrefix: persistence?.prefix,
      });
    }
    case 'real-server': {
      const key = ipvsKey(object);
      if (verb === 'delete') return deleteDestination(genl, key, object);
      const put = verb === 'create' ? newDestination : setDestination;
      return put(genl, key, object, { weight: object.weight, forwarding: 'masquerade' });
    }
    default:
      throw misplaced(object);
  }
}

function misplaced({ kind }: KernelObject): MeshError {
  return new MeshError('internal', `no such request is made of a ${kind}`);
}

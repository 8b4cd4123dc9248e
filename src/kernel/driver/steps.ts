import { MeshError } from '../../base/errors.ts';
import { type Cidr, familyOf, type IpAddress } from '../../model/address.ts';
import { hostPrefix } from '../../model/block.ts';
import type { KernelObject, Op, SetEntry, VethPair, Vxlan } from '../../model/kernel-state.ts';
import { ROUTE_PROTOCOL } from '../../model/names.ts';
import { deleteAddress, IFA_F_NODAD, newAddress } from '../../netlink/address.ts';
import { addEntry, createSet, deleteEntry, destroySet } from '../../netlink/ipset.ts';
import type { SetEntry as NetlinkSetEntry } from '../../netlink/ipset-entry.ts';
import {
  deleteService,
  IP_VS_SVC_F_PERSISTENT,
  newService,
  schedulerBits,
  setConfig,
  setService,
} from '../../netlink/ipvs.ts';
import { deleteDestination, newDestination, setDestination } from '../../netlink/ipvs-destination.ts';
import { deleteLink, newLink, setLink } from '../../netlink/link.ts';
import type { CreateMode, NetlinkRequest } from '../../netlink/message.ts';
import { deleteFdb, deleteNeighbour, newFdb, newNeighbour } from '../../netlink/neighbour.ts';
import { deleteRoute, newRoute } from '../../netlink/route.ts';
import { deleteRule, newRule } from '../../netlink/rule.ts';
import type { FastPathOp } from '../fast-path/fast-path-driver.ts';
import type { FirewallOp } from '../firewall/firewall-text.ts';
import { ipvsKey } from '../ipvs/ipvs.ts';
import { foreignRouteCount } from '../observe/foreign-routes.ts';
import { NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE } from './transport.ts';

/** What a request needs to know of the kernel when it is written. */
export interface RequestContext {
  /** ifindex of a link in the step's netns; throws when there is none. */
  index(name: string): number;
  /** Open descriptor of a netns; throws when there is none. */
  fd(netns: string): number;
  /** Number of the IPVS family. */
  ipvsFamilyId: number;
}

/** One thing to do for an Op, by the means it takes. */
export type Step =
  | NetlinkStep
  | { backend: 'namespace'; netns: string; act: 'create' | 'remove' }
  | { backend: 'sysctl'; netns: string; name: string; value: string }
  | { backend: 'firewall'; netns: string; op: FirewallOp }
  | { backend: 'fast-path'; netns: string; op: FastPathOp };

export interface NetlinkStep {
  backend: 'netlink';
  /** Where the socket is. */
  netns: string;
  protocol: number;
  /** Links of that netns the request names by ifindex. */
  usedLinks: readonly string[];
  /** Links, as `netns name`, that come or go with it. */
  changedLinks: readonly string[];
  /** The request for an Op that takes this step. */
  buildRequest(around: RequestContext, op: Op): NetlinkRequest;
}

type Verb = Op['verb'];
type ObjectOf<K extends KernelObject['kind']> = Extract<KernelObject, { kind: K }>;
const LOOPBACK = { index: 1 };
const NO_LINKS: readonly string[] = [];
const ALL_BITS = 0xffff_ffff;

/** What an Op takes, in order. */
export function stepsOf(op: Op): Step[] {
  const { object } = op;
  const previous = op.verb === 'change' ? op.before : object;
  switch (object.kind) {
    case 'netns':
      return netnsSteps(op.verb, object.netns, object.loopbackUp);
    case 'veth':
      return op.verb === 'change' ? changeVeth(object, previous) : vethSteps(op.verb, object);
    case 'vxlan':
      return [vxlanStep(op.verb, object)];
    case 'sysctl':
      // What a sysctl was before it was ours nobody knows.
      return op.verb === 'delete'
        ? []
        : [{ backend: 'sysctl', netns: object.netns, name: object.name, value: object.value }];
    case 'chain':
      return [{ backend: 'firewall', netns: object.netns, op: { verb: op.verb, object } }];
    case 'jump':
      return [{ backend: 'firewall', netns: object.netns, op: { verb: op.verb, object } }];
    case 'rule':
      // A rule has no change: two of one priority stand side by side.
      if (previous.kind === 'rule' && op.verb === 'change') {
        return [routingStep('delete', previous), routingStep('create', object)];
      }
      return [routingStep(op.verb, object)];
    case 'route':
      return routeSteps(op.verb, object, previous.kind === 'route' ? previous : object);
    case 'address':
    case 'neighbour':
    case 'fdb':
      return [routingStep(op.verb, object)];
    case 'ipset':
    case 'set-member':
    case 'set-entry':
      return sharedStep(sharedSteps.sets, object.netns, NETLINK_NETFILTER, setRequest);
    case 'ipvs-timeouts':
      return op.verb === 'delete' ? [] : sharedStep(sharedSteps.balancers, object.netns, NETLINK_GENERIC, ipvsRequest);
    case 'virtual-service':
    case 'real-server':
      return sharedStep(sharedSteps.balancers, object.netns, NETLINK_GENERIC, ipvsRequest);
    case 'fast-path':
    case 'fast-path-task':
    case 'fast-path-port':
    case 'fast-path-peer':
      return [{ backend: 'fast-path', netns: object.netns, op: { verb: op.verb, object } }];
  }
}

function routeNetlinkStep(
  netns: string,
  write: NetlinkStep['buildRequest'],
  uses: readonly string[] = NO_LINKS,
  moves: readonly string[] = NO_LINKS,
): NetlinkStep {
  return {
    backend: 'netlink',
    netns,
    protocol: NETLINK_ROUTE,
    usedLinks: uses,
    changedLinks: moves,
    buildRequest: write,
  };
}

function netnsSteps(verb: Verb, netns: string, loopbackUp: boolean): Step[] {
  if (verb === 'delete') return [{ backend: 'namespace', netns, act: 'remove' }];
  const loopback = routeNetlinkStep(netns, () => setLink(LOOPBACK, { up: loopbackUp }));
  if (verb === 'change') return [loopback];
  return loopbackUp
    ? [{ backend: 'namespace', netns, act: 'create' }, loopback]
    : [{ backend: 'namespace', netns, act: 'create' }];
}

function vethSteps(verb: 'create' | 'delete', pair: VethPair): Step[] {
  const { netns, name, mtu, up, peer } = pair;
  const ends = [`${netns} ${name}`, `${peer.netns} ${peer.name}`];
  if (verb === 'delete') return [routeNetlinkStep(netns, () => deleteLink({ name }), [], ends)];
  const make = routeNetlinkStep(
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
  return routeNetlinkStep(netns, () => setLink({ name }, { mtu, up }));
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
  if (verb === 'delete') return routeNetlinkStep(netns, () => deleteLink({ name }), [], moves);
  if (verb === 'change') return routeNetlinkStep(netns, () => setLink({ name }, { mtu, mac, up }));
  return routeNetlinkStep(
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
function routeSteps(verb: Verb, object: ObjectOf<'route'>, before: ObjectOf<'route'>): Step[] {
  const count = verb === 'create' ? 0 : foreignRouteCount(before.dev);
  if (count === 0) return [routingStep(verb, object)];
  const { netns, destination, table } = before;
  const removal = routeNetlinkStep(netns, () => deleteRoute({ destination, table, protocol: ROUTE_PROTOCOL }));
  const removals: Step[] = Array.from({ length: count }, () => removal);
  return verb === 'delete' ? removals : [...removals, routingStep('create', object)];
}

/** Addresses, neighbours, FDB entries, routes and rules: `change` replaces what has the same key. */
function routingStep(verb: Verb, object: ObjectOf<'address' | 'neighbour' | 'fdb' | 'route' | 'rule'>): NetlinkStep {
  const mode: CreateMode = verb === 'change' ? 'replace' : 'create';
  const remove = verb === 'delete';
  switch (object.kind) {
    case 'address': {
      const { netns, dev, address, prefix } = object;
      const flags = address.includes(':') ? IFA_F_NODAD : undefined;
      return routeNetlinkStep(
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
      return routeNetlinkStep(
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
      return routeNetlinkStep(
        netns,
        ({ index }) =>
          remove ? deleteFdb({ index: index(dev), mac }) : newFdb({ index: index(dev), mac, dst, vni }, mode),
        [dev],
      );
    }
    case 'route': {
      const { netns, destination, table, dev, via, onlink, scope, source, type } = object;
      return routeNetlinkStep(
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
      return routeNetlinkStep(netns, () => (remove ? deleteRule(spec) : newRule(spec)));
    }
  }
}

/** Of requests that name no link and say all by their Op there may be 100,000: they share one step a netns and protocol. */
const sharedSteps = { sets: new Map<string, Step[]>(), balancers: new Map<string, Step[]>() };

function sharedStep(
  known: Map<string, Step[]>,
  netns: string,
  protocol: number,
  write: NetlinkStep['buildRequest'],
): Step[] {
  let steps = known.get(netns);
  if (steps === undefined) {
    steps = [{ backend: 'netlink', netns, protocol, usedLinks: NO_LINKS, changedLinks: NO_LINKS, buildRequest: write }];
    known.set(netns, steps);
  }
  return steps;
}

/** Of a hash set; the kernel takes room for elements as they come, and 65536 by default. */
const MAX_ELEMENTS = 1 << 20;

function setRequest(_context: RequestContext, { verb, object }: Op): NetlinkRequest {
  if (object.kind !== 'ipset' && object.kind !== 'set-member' && object.kind !== 'set-entry')
    throw unexpectedKind(object);
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

function memberOf({ port, mark }: ObjectOf<'set-member'>): NetlinkSetEntry {
  return mark === undefined ? { port } : { port, skbMark: { mark, mask: ALL_BITS } };
}

function entryOf({ network, protocol, port, network2, foreign }: SetEntry): NetlinkSetEntry {
  const [address, prefix] = splitNetwork(network);
  const [address2, prefix2] = network2 === undefined ? [] : splitNetwork(network2);
  return { address, prefix, protocol, port, address2, prefix2, noMatch: foreign?.includes('nomatch') };
}

/** Without its prefix length when that is the full one: types of single addresses take none. */
function splitNetwork(network: Cidr): [IpAddress, number?] {
  const [address = '', prefix = ''] = network.split('/');
  return Number(prefix) === hostPrefix(familyOf(network)) ? [address] : [address, Number(prefix)];
}

function ipvsRequest({ ipvsFamilyId: genl }: RequestContext, { verb, object }: Op): NetlinkRequest {
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
      throw unexpectedKind(object);
  }
}

function unexpectedKind({ kind }: KernelObject): MeshError {
  return new MeshError('internal', `no such request is made of a ${kind}`);
}

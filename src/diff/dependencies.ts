import { familyOf, type Protocol } from '../model/address.ts';
import { type KernelObject, keyOf, type Shortcut, serviceKey } from '../model/kernel-state.ts';
import { CHAIN_PREFIX, HOST_LINKS, HOST_NETNS, LB_NETNS, publishedSet, serviceSet } from '../model/names.ts';

/**
 * The kernel's own rules of what needs what, in one table. Everything is said in names of things (`netns mesh-lb`,
 * `link mesh-lb host0`), because one object may be several of them: a veth pair is a link in two namespaces.
 */
interface Needs {
  /** Things this object lives in: the kernel destroys it together with any of them. */
  inside: string[];
  /** Things that cannot be removed while this object refers to them. */
  holds: string[];
  /** Things it must come after, and leave before, without the kernel minding. */
  after: string[];
}

const NOTHING: readonly string[] = [];

/** The names of things an object is; what others depend on. */
export function provides(object: KernelObject): string[] {
  switch (object.kind) {
    case 'netns':
      return [netns(object.netns)];
    case 'veth':
      return [link(object.netns, object.name), link(object.peer.netns, object.peer.name)];
    case 'vxlan':
      return [link(object.netns, object.name)];
    case 'address':
      return [address(object.netns, object.dev, object.address), local(object.netns, object.address)];
    case 'ipset':
      return [set(object.netns, object.name)];
    case 'chain':
      return [chain(object.netns, object.family, object.table, object.chain)];
    case 'virtual-service':
      return [`virtual-service ${serviceKey(object)}`];
    default:
      return [keyOf(object)];
  }
}

const PARENTS: ReadonlySet<KernelObject['kind']> = new Set([
  'netns',
  'veth',
  'vxlan',
  'address',
  'ipset',
  'chain',
  'virtual-service',
]);

/**
 * Whether other objects can live in this one or need it: where it was missing, they may be missing too. The many small
 * ones at the end of the order cost no names.
 */
export function isParent(object: KernelObject): boolean {
  return PARENTS.has(object.kind);
}

/** Everything an object needs, by name of thing; `provides` of other objects answer to these names. */
export function dependencies(object: KernelObject): string[] {
  const { inside, holds, after } = needsOf(object);
  return [...inside, ...holds, ...after];
}

/** Names of the things whose end is this object's end too. */
export function livesIn(object: KernelObject): string[] {
  return needsOf(object).inside;
}

/** Names of the things this object keeps from being removed (EBUSY). */
export function holdsOn(object: KernelObject): string[] {
  return needsOf(object).holds;
}

function needsOf(object: KernelObject): Needs {
  const own = inNetns(object.netns);
  switch (object.kind) {
    case 'netns':
      return needs([]);
    case 'veth':
      // A netns is cleaned up later than it is deleted, and lives as long as a process in it: so the pair is taken
      // down by its own name before the namespace of its far end, and only dies with its near end.
      return needs(own, [], inNetns(object.peer.netns));
    case 'vxlan':
      return needs(own, [], inNetns(object.underlayNetns));
    case 'sysctl': {
      const dev = linkOfSysctl(object.name);
      return needs(dev === undefined ? own : [...own, link(object.netns, dev)]);
    }
    case 'address':
    case 'neighbour':
    case 'fdb':
      return needs([...own, link(object.netns, object.dev)]);
    case 'route': {
      const inside = [...own, link(object.netns, object.dev)];
      if (object.source === undefined) return needs(inside);
      const source = local(object.netns, object.source);
      // Losing its preferred source ends an IPv4 route (fib_sync_down_addr); IPv6 only forgets the source.
      return familyOf(object.destination) === 'inet' ? needs([...inside, source]) : needs(inside, [], [source]);
    }
    case 'ipset':
    case 'ipvs-timeouts':
    case 'virtual-service':
      return needs(own);
    case 'rule': {
      const everywhere = object.family === 'inet' ? '0.0.0.0/0' : '::/0';
      const table = 'object' === typeof object.action && 'lookup' in object.action ? object.action.lookup : undefined;
      return needs(own, [], table === undefined ? [] : [`route ${object.netns} ${table} ${everywhere}`]);
    }
    case 'set-member':
      return needs([...own, set(object.netns, object.set)], [], memberAfter(object));
    case 'set-entry': {
      const { protocol, port } = object;
      const after = port === undefined || typeof protocol !== 'string' ? [] : [markOf(protocol, port)];
      return needs([...own, set(object.netns, object.set)], [], after);
    }
    case 'chain': {
      // What the administrator's rules refer to is not ours to take out of the way.
      if (object.administrator === true) return needs(own);
      const { family, table, rules } = object;
      const sets = setsIn(rules).map((name) => set(object.netns, name));
      const chains = chainsIn(rules).map((name) => chain(object.netns, family, table, name));
      return needs(own, [...sets, ...chains]);
    }
    case 'jump':
      return needs(own, [chain(object.netns, object.family, object.table, object.chain)]);
    case 'real-server':
      return needs([...own, `virtual-service ${serviceKey(object)}`]);
    case 'shortcut':
      return shortcutNeeds(object, own);
    case 'shortcut-task':
      // The entry has the link's number, and outlives it.
      return needs(own, [link(object.netns, object.link)], [`shortcut ${object.netns} ${object.link}`]);
    case 'shortcut-peer':
      return needs(own);
    case 'shortcut-port':
      return needs(own, [], [service(LB_NETNS, 'inet', object.mark)]);
  }
}

/** Filters end with their link; what their programs name by number they outlive, to lead nowhere or elsewhere. */
function shortcutNeeds({ netns: name, link: dev, program }: Shortcut, own: string[]): Needs {
  // The host's underlay link is nobody's object.
  const inside = name === HOST_NETNS && !HOST_LINKS.includes(dev) ? own : [...own, link(name, dev)];
  switch (program.type) {
    case 'host-in':
      return needs(inside, [link(name, program.lb), link(name, program.router)], [`shortcut ${name} ${program.lb}`]);
    case 'task-out':
      return needs(inside, [link(name, program.vxlan), link(name, program.lb)]);
    case 'host-out':
    case 'router-in':
    case 'foreign':
      return needs(inside);
  }
}

/** A port is let in only when what lies behind it stands: service, then its mark, then the host's DNAT. */
function memberAfter(member: KernelObject & { kind: 'set-member' }): string[] {
  if (member.mark !== undefined) {
    return [service(member.netns, 'inet', member.mark), service(member.netns, 'inet6', member.mark)];
  }
  const protocol = (['tcp', 'udp', 'sctp'] as const).find((candidate) => publishedSet(candidate) === member.set);
  return protocol === undefined ? [] : [markOf(protocol, member.port)];
}

function markOf(protocol: Protocol, port: number): string {
  return keyOf({ kind: 'set-member', netns: LB_NETNS, set: serviceSet(protocol), port });
}

function needs(inside: string[], holds: string[] = [...NOTHING], after: string[] = [...NOTHING]): Needs {
  return { inside, holds, after };
}

function inNetns(name: string): string[] {
  return name === HOST_NETNS ? [] : [netns(name)];
}

function netns(name: string): string {
  return `netns ${name}`;
}

function link(inside: string, name: string): string {
  return `link ${inside} ${name}`;
}

function address(inside: string, dev: string, ip: string): string {
  return `address ${inside} ${dev} ${ip}`;
}

function local(inside: string, ip: string): string {
  return `local ${inside} ${ip}`;
}

function set(inside: string, name: string): string {
  return `ipset ${inside} ${name}`;
}

function chain(inside: string, family: string, table: string, name: string): string {
  return `chain ${inside} ${family} ${table} ${name}`;
}

function service(inside: string, family: string, fwmark: number): string {
  return `virtual-service ${inside} ${family} ${fwmark}`;
}

function setsIn(rules: readonly string[]): string[] {
  return rules.flatMap((rule) => [...rule.matchAll(/--(?:match|map|add|del)-set (\S+)/g)].map((match) => match[1]!));
}

/** Chains of ours a chain leads into. */
function chainsIn(rules: readonly string[]): string[] {
  return rules.flatMap((rule) => {
    const target = / ?-j (\S+)$/.exec(rule)?.[1];
    return target?.startsWith(CHAIN_PREFIX) ? [target] : [];
  });
}

/** `net.ipv4.conf.mesh0.rp_filter` belongs to mesh0; `all` and `default` to the netns. */
function linkOfSysctl(name: string): string | undefined {
  const dev = /^net\.ipv[46]\.(?:conf|neigh)\.([^.]+)\./.exec(name)?.[1];
  return dev === undefined || dev === 'all' || dev === 'default' ? undefined : dev.replaceAll('/', '.');
}

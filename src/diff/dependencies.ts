import { familyOf, type Protocol } from '../model/address.ts';
import { type FastPathFilter, type KernelObject, keyOf, serviceKey } from '../model/kernel-state.ts';
import { CHAIN_PREFIX, HOST_LINKS, HOST_NETNS, LB_NETNS, publishedSet, serviceSet } from '../model/names.ts';

/**
 * The kernel's own rules of what needs what, in one table. Everything is said in names of things (`netns mesh-lb`,
 * `link mesh-lb host0`), because one object may be several of them: a veth pair is a link in two namespaces.
 */
interface Dependencies {
  /** Things this object lives in: the kernel destroys it together with any of them. */
  parents: string[];
  /** Things that cannot be removed while this object refers to them. */
  references: string[];
  /** Things it must come after, and leave before, without the kernel minding. */
  predecessors: string[];
}

const NONE: readonly string[] = [];

/** The names of things an object is; what others depend on. */
export function providedNames(object: KernelObject): string[] {
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
  const { parents, references, predecessors } = dependenciesOf(object);
  return [...parents, ...references, ...predecessors];
}

/** Names of the things whose end is this object's end too. */
export function parentsOf(object: KernelObject): string[] {
  return dependenciesOf(object).parents;
}

/** Names of the things this object keeps from being removed (EBUSY). */
export function referencesOf(object: KernelObject): string[] {
  return dependenciesOf(object).references;
}

function dependenciesOf(object: KernelObject): Dependencies {
  const own = netnsParents(object.netns);
  switch (object.kind) {
    case 'netns':
      return makeDependencies([]);
    case 'veth':
      // A netns is cleaned up later than it is deleted, and lives as long as a process in it: so the pair is taken
      // down by its own name before the namespace of its far end, and only dies with its near end.
      return makeDependencies(own, [], netnsParents(object.peer.netns));
    case 'vxlan':
      return makeDependencies(own, [], netnsParents(object.underlayNetns));
    case 'sysctl': {
      const dev = linkOfSysctl(object.name);
      return makeDependencies(dev === undefined ? own : [...own, link(object.netns, dev)]);
    }
    case 'address':
    case 'neighbour':
    case 'fdb':
      return makeDependencies([...own, link(object.netns, object.dev)]);
    case 'route': {
      const inside = [...own, link(object.netns, object.dev)];
      if (object.source === undefined) return makeDependencies(inside);
      const source = local(object.netns, object.source);
      // Losing its preferred source ends an IPv4 route (fib_sync_down_addr); IPv6 only forgets the source.
      return familyOf(object.destination) === 'inet'
        ? makeDependencies([...inside, source])
        : makeDependencies(inside, [], [source]);
    }
    case 'ipset':
    case 'ipvs-timeouts':
    case 'virtual-service':
      return makeDependencies(own);
    case 'rule': {
      const everywhere = object.family === 'inet' ? '0.0.0.0/0' : '::/0';
      const table = 'object' === typeof object.action && 'lookup' in object.action ? object.action.lookup : undefined;
      return makeDependencies(own, [], table === undefined ? [] : [`route ${object.netns} ${table} ${everywhere}`]);
    }
    case 'set-member':
      return makeDependencies([...own, set(object.netns, object.set)], [], setMemberPredecessors(object));
    case 'set-entry': {
      const { protocol, port } = object;
      const after = port === undefined || typeof protocol !== 'string' ? [] : [markEntryKey(protocol, port)];
      return makeDependencies([...own, set(object.netns, object.set)], [], after);
    }
    case 'chain': {
      // What the administrator's rules refer to is not ours to take out of the way.
      if (object.administrator === true) return makeDependencies(own);
      const { family, table, rules } = object;
      const sets = setsIn(rules).map((name) => set(object.netns, name));
      const chains = chainsIn(rules).map((name) => chain(object.netns, family, table, name));
      return makeDependencies(own, [...sets, ...chains]);
    }
    case 'jump':
      return makeDependencies(own, [chain(object.netns, object.family, object.table, object.chain)]);
    case 'real-server':
      return makeDependencies([...own, `virtual-service ${serviceKey(object)}`]);
    case 'fast-path':
      return fastPathDependencies(object, own);
    case 'fast-path-task':
      // The entry has the link's number, and outlives it.
      return makeDependencies(own, [link(object.netns, object.link)], [`fast-path ${object.netns} ${object.link}`]);
    case 'fast-path-peer':
      return makeDependencies(own);
    case 'fast-path-port':
      return makeDependencies(own, [], [service(LB_NETNS, 'inet', object.mark)]);
  }
}

/** Filters end with their link; what their programs name by number they outlive, to lead nowhere or elsewhere. */
function fastPathDependencies({ netns: name, link: dev, program }: FastPathFilter, own: string[]): Dependencies {
  // The host's underlay link is nobody's object.
  const parents = name === HOST_NETNS && !HOST_LINKS.includes(dev) ? own : [...own, link(name, dev)];
  switch (program?.type) {
    case 'host-in':
      return makeDependencies(
        parents,
        [link(name, program.lb), link(name, program.router)],
        [`fast-path ${name} ${program.lb}`],
      );
    case 'task-out':
      return makeDependencies(parents, [link(name, program.vxlan), link(name, program.lb)]);
    case 'host-out':
    case 'router-in':
    case undefined:
      return makeDependencies(parents);
  }
}

/** A port is let in only when what lies behind it stands: service, then its mark, then the host's DNAT. */
function setMemberPredecessors(member: KernelObject & { kind: 'set-member' }): string[] {
  if (member.mark !== undefined) {
    return [service(member.netns, 'inet', member.mark), service(member.netns, 'inet6', member.mark)];
  }
  const protocol = (['tcp', 'udp', 'sctp'] as const).find((candidate) => publishedSet(candidate) === member.set);
  return protocol === undefined ? [] : [markEntryKey(protocol, member.port)];
}

function markEntryKey(protocol: Protocol, port: number): string {
  return keyOf({ kind: 'set-member', netns: LB_NETNS, set: serviceSet(protocol), port });
}

function makeDependencies(
  parents: string[],
  references: string[] = [...NONE],
  predecessors: string[] = [...NONE],
): Dependencies {
  return { parents, references, predecessors };
}

function netnsParents(name: string): string[] {
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

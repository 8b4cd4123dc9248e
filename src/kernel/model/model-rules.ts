import { dependencies, parentsOf, providedNames, referencesOf } from '../../diff/dependencies.ts';
import { familyOf } from '../../model/address.ts';
import {
  type FastPathFilter,
  type FastPathTask,
  type IpSet,
  type KernelObject,
  keyOf,
  type Op,
  type RealServer,
  type SetEntry,
  serverKey,
  serviceKey,
  usesHashing,
  type VirtualService,
} from '../../model/kernel-state.ts';

/** Names as errno(3) has them; the real kernel answers the same to the same script. */
export type ModelErrno = 'EEXIST' | 'ENOENT' | 'EBUSY' | 'EOPNOTSUPP' | 'EINVAL' | 'ENETUNREACH';

/**
 * The objects of one kernel with the kernel's own rules: parents must exist, names are unique, what is referred to is
 * busy, and what lives in something ends with it. Changing what cannot be changed is refused.
 */
export interface ModelState {
  readonly objects: ReadonlyMap<string, KernelObject>;
  /** Takes one step, or says why not; a refused step changes nothing. */
  step(op: Op): ModelErrno | undefined;
}

/** A kernel that holds these objects, taken as they are. */
export function createModelState(initial: Iterable<KernelObject> = []): ModelState {
  const objects = new Map<string, KernelObject>();
  /** Which objects answer to a name: one for all names, but for an IP address on several links. */
  const providers = new Map<string, Set<string>>();
  const dependants = new Map<string, Set<string>>();

  /** Real servers by service, the newest last, as the kernel keeps them. */
  const servers = new Map<string, string[]>();

  const put = (given: KernelObject) => {
    const object = given.kind === 'virtual-service' ? withServers(given) : given;
    const key = keyOf(object);
    objects.set(key, object);
    if (object.kind === 'real-server') updateServers(object, (known) => [...new Set([...known, serverKey(object)])]);
    for (const name of providedNames(object)) addTo(providers, name, key);
    for (const name of dependencies(object)) addTo(dependants, name, key);
  };
  const drop = (object: KernelObject, returns = false) => {
    const key = keyOf(object);
    objects.delete(key);
    if (object.kind === 'real-server' && !returns) {
      updateServers(object, (known) => known.filter((server) => server !== serverKey(object)));
    }
    for (const name of providedNames(object)) providers.get(name)?.delete(key);
    for (const name of dependencies(object)) dependants.get(name)?.delete(key);
  };
  const withServers = ({ servers: _, ...service }: VirtualService): VirtualService =>
    usesHashing(service.scheduler) ? { ...service, servers: servers.get(keyOf(service)) ?? [] } : service;
  const updateServers = (server: RealServer, changed: (known: string[]) => string[]) => {
    const key = `virtual-service ${serviceKey(server)}`;
    servers.set(key, changed(servers.get(key) ?? []));
    const service = objects.get(key);
    if (service?.kind === 'virtual-service') objects.set(key, withServers(service));
  };
  const exists = (name: string) => (providers.get(name)?.size ?? 0) > 0;
  const dependantsOf = (object: KernelObject, relation: (object: KernelObject) => string[]) =>
    providedNames(object)
      // An IP address that is on another link too does not take its routes along.
      .filter((name) => providers.get(name)?.size === 1)
      .flatMap((name) => [...(dependants.get(name) ?? [])].map((key) => ({ name, object: objects.get(key)! })))
      .filter(({ name, object: dependant }) => relation(dependant).includes(name))
      .map(({ object: dependant }) => dependant);
  const dropWithChildren = (object: KernelObject) => {
    if (!objects.has(keyOf(object))) return;
    const children = dependantsOf(object, parentsOf);
    // The far end of a veth pair goes with its netns, and takes the near end along.
    const pairs =
      object.kind === 'netns'
        ? dependantsOf(object, (child) => (child.kind === 'veth' ? dependencies(child) : []))
        : [];
    for (const child of [...children, ...pairs]) dropWithChildren(child);
    const outdated = dependantsOf(object, referencesOf).filter(refersByIndex);
    drop(object);
    for (const dependant of outdated) {
      if (!objects.has(keyOf(dependant))) continue;
      drop(dependant);
      put(withoutLink(dependant));
    }
  };

  const create = (object: KernelObject): ModelErrno | undefined => {
    if (object.kind === 'sysctl' || object.kind === 'ipvs-timeouts') {
      // Always there; making one is setting it.
      if (!parentsOf(object).every(exists)) return 'ENOENT';
      put(object);
      return undefined;
    }
    const parents = [
      ...parentsOf(object),
      ...referencesOf(object),
      ...(object.kind === 'veth' ? dependencies(object) : []),
    ];
    if (object.kind === 'route') {
      if (!exists(`link ${object.netns} ${object.dev}`)) return 'ENOENT';
      if (object.source !== undefined && !exists(`local ${object.netns} ${object.source}`)) return 'EINVAL';
      if (object.via !== undefined && !object.onlink && !linkRouteTo(object.netns, object.dev, object.via)) {
        return 'ENETUNREACH';
      }
    }
    if (!parents.every(exists)) return 'ENOENT';
    if (objects.has(keyOf(object)) || providedNames(object).some((name) => isUnique(name) && exists(name)))
      return 'EEXIST';
    if (object.kind === 'set-member') {
      const set = objects.get(`ipset ${object.netns} ${object.set}`);
      if (set?.kind !== 'ipset') return 'ENOENT';
      if (set.type !== 'bitmap:port') return 'EINVAL';
      if (object.port < set.range.from || object.port > set.range.to) return 'EINVAL';
      if (object.mark !== undefined && !set.skbinfo) return 'EINVAL';
    }
    if (object.kind === 'set-entry') {
      const set = objects.get(`ipset ${object.netns} ${object.set}`);
      if (set?.kind !== 'ipset' || !fitsSet(set, object)) return 'EINVAL';
    }
    put(object);
    return undefined;
  };

  const linkRouteTo = (netns: string, dev: string, gateway: string) =>
    [...objects.values()].some(
      (object) =>
        object.kind === 'route' &&
        object.netns === netns &&
        object.dev === dev &&
        object.via === undefined &&
        object.destination.startsWith(`${gateway}/`),
    );

  const step = (op: Op): ModelErrno | undefined => {
    const { object } = op;
    if (op.verb === 'create') return create(object);
    const before = objects.get(keyOf(object));
    if (before === undefined) return 'ENOENT';
    if (op.verb === 'change') {
      if (!isChangeable(before, object)) return 'EOPNOTSUPP';
      if (![...parentsOf(object), ...referencesOf(object)].every(exists)) return 'ENOENT';
      drop(before, true);
      put(object);
      return undefined;
    }
    if (before.kind === 'sysctl' || before.kind === 'ipvs-timeouts') return 'EOPNOTSUPP';
    if (dependantsOf(before, referencesOf).some((holder) => !refersByIndex(holder))) return 'EBUSY';
    if (before.kind === 'chain' && before.administrator && before.rules.length > 0) return 'EBUSY';
    dropWithChildren(before);
    return undefined;
  };

  for (const object of initial) put(object);
  return { objects, step };
}

function addTo(index: Map<string, Set<string>>, name: string, key: string): void {
  const keys = index.get(name);
  if (keys === undefined) index.set(name, new Set([key]));
  else keys.add(key);
}

/** Whether an element has the fields that its set's type wants, and no other family. */
function fitsSet(set: IpSet, { network, port, network2 }: SetEntry): boolean {
  if (set.type === 'bitmap:port' || familyOf(network) !== set.family) return false;
  if (network.endsWith('/0') || network2?.endsWith('/0')) return false;
  const whole = network.endsWith(set.family === 'inet' ? '/32' : '/128');
  switch (set.type) {
    case 'hash:ip':
      return whole && port === undefined && network2 === undefined;
    case 'hash:net,port':
      return port !== undefined && network2 === undefined;
    case 'hash:net,port,net':
      return port !== undefined && network2 !== undefined && familyOf(network2) === set.family;
  }
}

/** Has the number of a link, which keeps no link from going away: it merely leads nowhere afterwards. */
function refersByIndex(object: KernelObject): object is FastPathFilter | FastPathTask {
  return object.kind === 'fast-path' || object.kind === 'fast-path-task';
}

function withoutLink(object: FastPathFilter | FastPathTask): KernelObject {
  return object.kind === 'fast-path'
    ? { kind: 'fast-path', netns: object.netns, link: object.link, foreign: ['another program'] }
    : { ...object, link: 'unknown' };
}

/** One IP address may be on several links. */
function isUnique(name: string): boolean {
  return !name.startsWith('local ');
}

/** Written from the kernel's side, apart from what src/diff believes. */
function isChangeable(before: KernelObject, after: KernelObject): boolean {
  if (before.kind !== after.kind) return false;
  switch (before.kind) {
    case 'veth': {
      const { peer } = after as typeof before;
      return before.peer.netns === peer.netns && before.peer.name === peer.name;
    }
    case 'vxlan': {
      // vxlan_nl2conf() answers EOPNOTSUPP to a changed id or port; the socket cannot move.
      const next = after as typeof before;
      return (['underlayNetns', 'vni', 'local', 'port', 'gbp', 'learning'] as const).every(
        (field) => before[field] === next[field],
      );
    }
    case 'ipset':
    case 'rule':
    case 'address':
      return false;
    default:
      return true;
  }
}

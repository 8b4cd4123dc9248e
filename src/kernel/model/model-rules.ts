import type { Op } from '../../model/kernel-state.ts';
import type { KindRegistry } from '../../model/kinds/kind.ts';
import { type RealServer, serverName } from '../../model/kinds/real-server.ts';
import { type KernelObject, KINDS } from '../../model/kinds/registry.ts';
import { usesHashing, type VirtualService } from '../../model/kinds/virtual-service.ts';
import { type KernelRules, type KernelView, type ModelErrno, serviceName } from '../kinds/kernel-rules.ts';
import { LINUX_KINDS, type LinuxKindRegistry } from '../kinds/registry.ts';

/**
 * The objects of one kernel, changed as the kernel changes them: the parent of an object must exist, names are unique, an
 * object in use is busy, and dependent objects are removed with their parent. The rules of each kind are in kernel/kinds.
 */
export interface ModelState {
  readonly objects: ReadonlyMap<string, KernelObject>;
  /** Executes one operation, or returns why not; a refused operation changes nothing. */
  step(op: Op): ModelErrno | undefined;
}

/** The kinds that a model kernel knows: their keys from the pure half, their rules from the Linux half. */
export interface ModelKinds {
  pure: KindRegistry;
  linux: LinuxKindRegistry;
}

export const ALL_KINDS: ModelKinds = { pure: KINDS, linux: LINUX_KINDS };

/** A kernel that holds these objects, taken as they are. */
export function createModelState(initial: Iterable<KernelObject> = [], kinds: ModelKinds = ALL_KINDS): ModelState {
  const objects = new Map<string, KernelObject>();
  /** Keys of the objects that have a name, and of those that live in, use or index what has it. */
  const bearers = createIndex();
  const dependants = createIndex();
  const order = createServerOrder();
  // An object and the rules of its own kind always fit.
  const rulesOf = ({ kind }: KernelObject) =>
    kinds.linux[kind]!.rules as unknown as KernelRules<KernelObject, KernelObject>;

  const keyOf = (object: KernelObject) => kinds.pure[object.kind]!.key(object);

  const ownNames = (object: KernelObject) => rulesOf(object).names?.(object) ?? [keyOf(object)];
  const allNames = (object: KernelObject) => [...ownNames(object), ...(rulesOf(object).sharedNames?.(object) ?? [])];
  const livesIn = (object: KernelObject) => rulesOf(object).livesIn(object);
  const uses = (object: KernelObject) => rulesOf(object).uses?.(object) ?? [];
  const indexes = (object: KernelObject) => rulesOf(object).indexes?.(object) ?? [];
  const needs = (object: KernelObject) => [...livesIn(object), ...uses(object), ...indexes(object)];
  const exists = (name: string) => bearers.keys(name).length > 0;

  const view: KernelView<KernelObject> = {
    exists,
    get: (name) => objects.get(bearers.keys(name)[0] ?? ''),
    objects: () => objects.values(),
  };

  function put(object: KernelObject): void {
    const key = keyOf(object);
    objects.set(key, object.kind === 'virtual-service' ? order.apply(object) : object);
    for (const name of allNames(object)) bearers.add(name, key);
    for (const name of needs(object)) dependants.add(name, key);
    if (object.kind === 'real-server') {
      order.append(object);
      refreshService(object);
    }
  }

  function drop(object: KernelObject): void {
    const key = keyOf(object);
    objects.delete(key);
    for (const name of allNames(object)) bearers.delete(name, key);
    for (const name of needs(object)) dependants.delete(name, key);
  }

  function refreshService(server: RealServer): void {
    const service = view.get(serviceName(server));
    if (service?.kind === 'virtual-service') objects.set(keyOf(service), order.apply(service));
  }

  /** Objects with a relation to a name that ends with this object; an IP address on another link keeps its own. */
  function related(object: KernelObject, relation: (other: KernelObject) => readonly string[]): KernelObject[] {
    return allNames(object)
      .filter((name) => bearers.keys(name).length === 1)
      .flatMap((name) =>
        dependants
          .keys(name)
          .map((key) => objects.get(key)!)
          .filter((other) => relation(other).includes(name)),
      );
  }

  function remove(object: KernelObject): void {
    if (!objects.has(keyOf(object))) return;
    for (const child of related(object, livesIn)) remove(child);
    const indexing = related(object, indexes);
    drop(object);
    if (object.kind === 'real-server') {
      order.remove(object);
      refreshService(object);
    }
    for (const other of indexing) {
      if (!objects.has(keyOf(other))) continue;
      drop(other);
      put(rulesOf(other).withoutIndex?.(other) ?? other);
    }
  }

  function create(object: KernelObject): ModelErrno | undefined {
    const { setting, refusal } = rulesOf(object);
    const refused = refusal?.(object, view);
    if (refused !== undefined) return refused;
    if (!needs(object).every(exists)) return 'ENOENT';
    if (setting !== true && (objects.has(keyOf(object)) || ownNames(object).some(exists))) return 'EEXIST';
    put(object);
    return undefined;
  }

  function change(before: KernelObject, object: KernelObject): ModelErrno | undefined {
    const { canChange } = rulesOf(object);
    if (before.kind !== object.kind || canChange?.(before, object) === false) return 'EOPNOTSUPP';
    if (!needs(object).every(exists)) return 'ENOENT';
    drop(before);
    put(object);
    return undefined;
  }

  function step({ verb, object }: Op): ModelErrno | undefined {
    if (verb === 'create') return create(object);
    const before = objects.get(keyOf(object));
    if (before === undefined) return 'ENOENT';
    if (verb === 'change') return change(before, object);
    const { setting, undeletable } = rulesOf(before);
    if (setting === true) return 'EOPNOTSUPP';
    if (undeletable?.(before) === true || related(before, uses).length > 0) return 'EBUSY';
    remove(before);
    return undefined;
  }

  for (const object of initial) put(object);
  return { objects, step };
}

/** Keys by name. */
function createIndex() {
  const index = new Map<string, Set<string>>();
  return {
    keys: (name: string): readonly string[] => [...(index.get(name) ?? [])],
    add(name: string, key: string): void {
      const keys = index.get(name);
      if (keys === undefined) index.set(name, new Set([key]));
      else keys.add(key);
    },
    delete: (name: string, key: string) => void index.get(name)?.delete(key),
  };
}

/** Real servers by service, the newest last, as the kernel keeps them; it matters to schedulers that hash. */
function createServerOrder() {
  const servers = new Map<string, string[]>();
  return {
    append(server: RealServer): void {
      const known = servers.get(serviceName(server)) ?? [];
      if (!known.includes(serverName(server))) servers.set(serviceName(server), [...known, serverName(server)]);
    },
    remove(server: RealServer): void {
      const known = servers.get(serviceName(server)) ?? [];
      servers.set(
        serviceName(server),
        known.filter((key) => key !== serverName(server)),
      );
    },
    apply({ servers: _, ...service }: VirtualService): VirtualService {
      return usesHashing(service.scheduler)
        ? { ...service, servers: servers.get(serviceName(service)) ?? [] }
        : service;
    },
  };
}

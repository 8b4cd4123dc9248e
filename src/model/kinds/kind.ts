import type { FieldCheck, FieldChecks } from './fields.ts';
import { STAGE_RANK, type Stage } from './stages.ts';
import { insideNetns } from './things.ts';

/** What every kernel object has. */
export interface ObjectBase {
  netns: string;
  /**
   * Changes by another program to an object of ours that no other field can represent, in the syntax of its tool:
   * `['pe sip']`, `['metric 50']`. Only observed objects have it, so they differ from every planned one and are
   * repaired. One word or phrase for each deviation; of routes one for each route that has to be deleted.
   */
  foreign?: readonly string[];
}

/** An object of any kind, also of one that is not in the registry. */
export interface AnyObject extends ObjectBase {
  kind: string;
}

export type Verb = 'create' | 'change' | 'delete';

/**
 * The pure half of one kind of kernel object: everything that the model, diff and the renderer need.
 * Dependencies are names of things (./things.ts), because one object may be several: a veth pair is two links.
 */
export interface KindDefinition<T extends AnyObject> {
  kind: T['kind'];
  /** The JSON form: every field but `kind`, `netns` and `foreign`. Fields a reader does not know are ignored. */
  fields: FieldChecks<T>;
  /** A field that others of the object make necessary, when it is missing in JSON. */
  missingField?(object: Partial<T>): string | undefined;
  /** What makes an object that object. The only place that spells the key. */
  key(object: T): string;
  /** When it is built, parents first; objects of one stage do not depend on each other. */
  stage: Stage | ((object: T) => Stage);
  /** Commands of iproute2, ipset, ipvsadm, iptables, tc or sysctl, run in the host's netns; `before` of a change. */
  commands(object: T, verb: Verb, before: T | undefined): string[];

  /** Whether an object with such a name belongs to meshd. Absent: everything of this kind that is observed does. */
  isOurs?(object: T): boolean;
  /** Names that this object provides, often just its key. Only for kinds that others depend on. */
  provides?: 'key' | ((object: T) => readonly string[]);
  /** Its parents: the kernel removes it together with any of them. Absent: its netns. */
  inside?(object: T): readonly string[];
  /** Things that cannot be removed (EBUSY), or must not be, while this object refers to them. */
  holds?(object: T): readonly string[];
  /** Things it is created after and deleted before, without the kernel requiring it. */
  after?(object: T): readonly string[];
  /** Objects without which this one is incomplete: it is recreated together with them. */
  halves?(object: T): readonly string[];
  /** Fields, dotted, that the kernel cannot change on a living object: a difference means delete and create. */
  fixedFields?: readonly string[];
  /** Whether two objects are equivalent although they differ. */
  isEquivalent?(before: T, after: T): boolean;
  /** Whether it stays when it is not desired: it has no absence, or its content is not ours. */
  isPermanent?(object: T): boolean;
  /** Whether a change reduces traffic: it is executed after those that add traffic. */
  reducesTraffic?(before: T, after: T): boolean;
  /** Place among objects of its stage and netns while they are built, or removed in reverse. Absent: the key. */
  sortKey?(object: T, key: string, isRemoval: boolean): string;
  /** The object for a description of differences, where its fields are not readable as they are. */
  readable?(object: T): unknown;
}

/** A definition with its defaults filled in; all descriptors have one shape, which keeps calls to them fast. */
export interface Kind<T extends AnyObject> {
  readonly kind: T['kind'];
  readonly fields: Readonly<Record<string, FieldCheck>>;
  readonly isParent: boolean;
  readonly fixedFields: readonly (readonly string[])[];
  missingField(object: Partial<T>): string | undefined;
  key(object: T): string;
  /** Place of the object's stage in the order. */
  rank(object: T): number;
  commands(object: T, verb: Verb, before: T | undefined): string[];
  isOurs(object: T): boolean;
  /** `key` is the object's. */
  provides(object: T, key: string): readonly string[];
  inside(object: T): readonly string[];
  holds(object: T): readonly string[];
  after(object: T): readonly string[];
  halves(object: T): readonly string[];
  isEquivalent(before: T, after: T): boolean;
  isPermanent(object: T): boolean;
  reducesTraffic(before: T, after: T): boolean;
  sortKey(object: T, key: string, isRemoval: boolean): string;
  readable(object: T): unknown;
}

/** Descriptors by kind. Functions that take one default to the registry of all kinds; tests add kinds of their own. */
export type KindRegistry = Readonly<Record<string, Kind<AnyObject>>>;

const NONE: readonly string[] = [];
const nothing = () => NONE;
const never = () => false;

export function defineKind<T extends AnyObject>(definition: KindDefinition<T>): Kind<T> {
  const { provides } = definition;
  return {
    kind: definition.kind,
    fields: definition.fields as Record<string, FieldCheck>,
    isParent: provides !== undefined,
    fixedFields: (definition.fixedFields ?? []).map((path) => path.split('.')),
    missingField: definition.missingField ?? (() => undefined),
    key: definition.key,
    rank: rankFunction(definition.stage),
    commands: definition.commands,
    isOurs: definition.isOurs ?? (() => true),
    provides: typeof provides === 'function' ? provides : (_, key) => [key],
    inside: definition.inside ?? (({ netns }) => insideNetns(netns)),
    holds: definition.holds ?? nothing,
    after: definition.after ?? nothing,
    halves: definition.halves ?? nothing,
    isEquivalent: definition.isEquivalent ?? never,
    isPermanent: definition.isPermanent ?? never,
    reducesTraffic: definition.reducesTraffic ?? never,
    sortKey: definition.sortKey ?? ((_, key) => key),
    readable: definition.readable ?? ((object) => object),
  };
}

function rankFunction<T>(stage: Stage | ((object: T) => Stage)): (object: T) => number {
  if (typeof stage === 'function') return (object) => STAGE_RANK[stage(object)];
  const rank = STAGE_RANK[stage];
  return () => rank;
}

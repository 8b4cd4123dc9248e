import { MeshError } from '../../base/errors.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { AnyObject } from '../../model/kinds/kind.ts';
import type { KernelObject, ObjectKind } from '../../model/kinds/registry.ts';
import type { Link } from '../../netlink/link.ts';
import type { NetlinkMessage } from '../../netlink/message.ts';
import type { Step } from '../driver/steps.ts';
import type { LinkNameOf } from '../observe/observe-links.ts';
import type { Observer } from '../observe/observer.ts';
import type { FailureCodes } from './failure-codes.ts';
import type { KernelRules } from './kernel-rules.ts';

export type ObjectOf<K extends ObjectKind> = Extract<KernelObject, { kind: K }>;

/** An operation on an object of one kind. */
export type OpOf<K extends ObjectKind> = OperationOn<ObjectOf<K>>;

type OperationOn<O> = { verb: 'create' | 'delete'; object: O } | { verb: 'change'; object: O; before: O };

/**
 * How often objects of a kind are compared with their desired state, independent of events.
 * `silent`: the kernel announces nothing and traffic depends on it, so often;
 * `costly`: announced in part or not at all, and expensive to read, so less often;
 * `notified`: the kernel announces every change, so rarely, for events that were lost.
 */
export type AuditClass = 'silent' | 'costly' | 'notified';

/** Changes elsewhere that may remove or alter an object without an event of its own. */
export type RelatedChange =
  /** A link of its netns was added or removed. */
  | 'link'
  /** Any object of the network of its netns changed; they are observed together, whichever event is first. */
  | 'network';

/** The content of one event. */
export type KernelEvent =
  | { of: 'link'; name: string; link: Link; removed: boolean }
  /** The object's new state, or undefined when it was removed or is not of our making. */
  | { of: 'object'; kind: ObjectKind; key: string; object: KernelObject | undefined }
  /** Some object of this kind changed. */
  | { of: 'kind'; kind: ObjectKind };

/** Events of rtnetlink; kinds that share a message type look at the message and leave each other's alone. */
export interface RouteEvents {
  source: 'rtnetlink';
  /** Multicast groups (RTNLGRP). */
  groups: readonly number[];
  /** Whether to subscribe in the host as well, where nearly all neighbours and rules are of other programs. */
  inHost: boolean;
  /** Message types (RTM_*). */
  types: readonly number[];
  /** Whether every change of every object is announced. */
  complete: boolean;
  decode(netns: string, message: NetlinkMessage, nameOf: LinkNameOf): readonly KernelEvent[];
}

/** Events of nf_tables, which name no object: firewall/nf-tables.ts reads them. */
interface FirewallEvents {
  source: 'nf_tables';
  complete: false;
}

/** One link that an object is. */
export interface LinkEnd {
  netns: string;
  name: string;
  mtu: number;
  up: boolean;
  /** Only of links whose MAC address we choose. */
  mac?: string;
}

/** The Linux half of a kind of kernel object; the pure half is in src/model/kinds. */
export type LinuxKind<K extends ObjectKind = ObjectKind> = LinuxKindOf<ObjectOf<K>>;

/** The Linux half for objects of one shape, also of a kind that is not in the registry. */
export interface LinuxKindOf<O extends AnyObject> {
  /** The steps of an operation, in order. */
  steps(op: OperationOn<O>): readonly Step[];
  /** Lists the objects that exist; kinds that one dump lists together have one observer in common. */
  observer: Observer;
  /** Undefined when the kernel announces nothing. */
  events?: RouteEvents | FirewallEvents;
  audit: AuditClass;
  related: readonly RelatedChange[];
  failures: FailureCodes;
  /** What a person can do about a failed operation. */
  remedy?(op: OperationOn<O>, code: string): string | undefined;
  /** The links that an object is. */
  links?(object: O): readonly LinkEnd[];
  rules: KernelRules<O, KernelObject>;
}

/** The object of an operation as one of this kind, for steps that are shared by all objects of the kind. */
export function objectOf<K extends ObjectKind>(kind: K, { object }: Op): ObjectOf<K> {
  if (object.kind !== kind) throw new MeshError('internal', `a step for ${kind} was given a ${object.kind}`);
  return object as ObjectOf<K>;
}

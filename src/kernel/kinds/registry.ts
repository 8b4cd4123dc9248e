import type { Op } from '../../model/kernel-state.ts';
import type { AnyObject } from '../../model/kinds/kind.ts';
import type { KernelObject, ObjectKind } from '../../model/kinds/registry.ts';
import type { Step } from '../driver/steps.ts';
import { addressKind } from './address.ts';
import { chainKind } from './chain.ts';
import { fastPathKind } from './fast-path.ts';
import { fastPathPeerKind } from './fast-path-peer.ts';
import { fastPathPortKind } from './fast-path-port.ts';
import { fastPathTaskKind } from './fast-path-task.ts';
import { fdbKind } from './fdb.ts';
import { hostRuleKind } from './host-rule.ts';
import { ipsetKind } from './ipset.ts';
import { ipvsTimeoutsKind } from './ipvs-timeouts.ts';
import { jumpKind } from './jump.ts';
import type { AuditClass, LinkEnd, LinuxKind, LinuxKindOf, RelatedChange } from './kind.ts';
import { neighbourKind } from './neighbour.ts';
import { netnsKind } from './netns.ts';
import { realServerKind } from './real-server.ts';
import { routeKind } from './route.ts';
import { ruleKind } from './rule.ts';
import { setEntryKind } from './set-entry.ts';
import { setMemberKind } from './set-member.ts';
import { sysctlKind } from './sysctl.ts';
import { vethKind } from './veth.ts';
import { virtualServiceKind } from './virtual-service.ts';
import { vxlanKind } from './vxlan.ts';

/** The Linux half of every kind; a kind without an entry does not compile. */
export type LinuxKinds = { readonly [K in ObjectKind]: LinuxKind<K> };

export const LINUX_KINDS: LinuxKinds = {
  netns: netnsKind,
  veth: vethKind,
  vxlan: vxlanKind,
  sysctl: sysctlKind,
  address: addressKind,
  neighbour: neighbourKind,
  fdb: fdbKind,
  route: routeKind,
  rule: ruleKind,
  'host-rule': hostRuleKind,
  ipset: ipsetKind,
  'set-member': setMemberKind,
  'set-entry': setEntryKind,
  chain: chainKind,
  jump: jumpKind,
  'ipvs-timeouts': ipvsTimeoutsKind,
  'virtual-service': virtualServiceKind,
  'real-server': realServerKind,
  'fast-path': fastPathKind,
  'fast-path-task': fastPathTaskKind,
  'fast-path-port': fastPathPortKind,
  'fast-path-peer': fastPathPeerKind,
};

/** Descriptors by kind. Functions with such a parameter default to the registry of all kinds; tests add kinds of their own. */
export type LinuxKindRegistry = Readonly<Record<string, LinuxKindOf<AnyObject>>>;

/** The descriptor of an object's kind. */
export function linuxKind({ kind }: AnyObject, kinds: LinuxKindRegistry = LINUX_KINDS): LinuxKindOf<AnyObject> {
  return kinds[kind]!;
}

/** The steps of an operation, in order. */
export function stepsOf(op: Op<AnyObject>, kinds: LinuxKindRegistry = LINUX_KINDS): readonly Step[] {
  return linuxKind(op.object, kinds).steps(op);
}

const NO_LINKS: readonly LinkEnd[] = [];

/** The links that an object is; none for most. */
export function linksOf(object: KernelObject): readonly LinkEnd[] {
  return linuxKind(object).links?.(object) ?? NO_LINKS;
}

/** All kinds, in the registry's order. */
export function allKinds(kinds: LinuxKindRegistry = LINUX_KINDS): ObjectKind[] {
  return Object.keys(kinds) as ObjectKind[];
}

/** Kinds of one audit class. */
export function kindsAudited(audit: AuditClass, kinds: LinuxKindRegistry = LINUX_KINDS): ObjectKind[] {
  return allKinds(kinds).filter((kind) => kinds[kind]!.audit === audit);
}

/** Kinds whose objects may change without an event of their own when this changes. */
export function kindsRelatedTo(change: RelatedChange, kinds: LinuxKindRegistry = LINUX_KINDS): ObjectKind[] {
  return allKinds(kinds).filter((kind) => kinds[kind]!.related.includes(change));
}

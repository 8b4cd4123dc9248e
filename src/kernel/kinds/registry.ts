import type { KernelObject, ObjectKind, Op } from '../../model/kernel-state.ts';
import type { Step } from '../driver/steps.ts';
import { addressKind } from './address.ts';
import { chainKind } from './chain.ts';
import { fastPathKind } from './fast-path.ts';
import { fastPathPeerKind } from './fast-path-peer.ts';
import { fastPathPortKind } from './fast-path-port.ts';
import { fastPathTaskKind } from './fast-path-task.ts';
import { fdbKind } from './fdb.ts';
import { ipsetKind } from './ipset.ts';
import { ipvsTimeoutsKind } from './ipvs-timeouts.ts';
import { jumpKind } from './jump.ts';
import type { AuditClass, LinkEnd, LinuxKind, RelatedChange } from './kind.ts';
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

/** The descriptor of an object's kind, as one of any kind: it only ever gets objects of its own. */
export function linuxKind({ kind }: Pick<KernelObject, 'kind'>, kinds: LinuxKinds = LINUX_KINDS): LinuxKind {
  return kinds[kind];
}

/** What an operation takes, in order. */
export function stepsOf(op: Op, kinds: LinuxKinds = LINUX_KINDS): readonly Step[] {
  return linuxKind(op.object, kinds).steps(op);
}

const NO_LINKS: readonly LinkEnd[] = [];

/** The links that an object is; none for most. */
export function linksOf(object: KernelObject): readonly LinkEnd[] {
  return linuxKind(object).links?.(object) ?? NO_LINKS;
}

/** All kinds, in the registry's order. */
export function allKinds(kinds: LinuxKinds = LINUX_KINDS): ObjectKind[] {
  return Object.keys(kinds) as ObjectKind[];
}

/** Kinds of one audit class. */
export function kindsAudited(audit: AuditClass, kinds: LinuxKinds = LINUX_KINDS): ObjectKind[] {
  return allKinds(kinds).filter((kind) => kinds[kind].audit === audit);
}

/** Kinds whose objects may change without an event of their own when this changes. */
export function kindsRelatedTo(change: RelatedChange, kinds: LinuxKinds = LINUX_KINDS): ObjectKind[] {
  return allKinds(kinds).filter((kind) => kinds[kind].related.includes(change));
}

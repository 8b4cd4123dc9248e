import { address } from './address.ts';
import { chain } from './chain.ts';
import { fastPath } from './fast-path.ts';
import { fastPathPeer, fastPathPort, fastPathTask } from './fast-path-entries.ts';
import { fdb } from './fdb.ts';
import { hostRule } from './host-rule.ts';
import { ipset } from './ipset.ts';
import { ipvsTimeouts } from './ipvs-timeouts.ts';
import { jump } from './jump.ts';
import type { AnyObject, Kind } from './kind.ts';
import { neighbour } from './neighbour.ts';
import { netns } from './netns.ts';
import { realServer } from './real-server.ts';
import { route } from './route.ts';
import { rule } from './rule.ts';
import { setEntry } from './set-entry.ts';
import { setMember } from './set-member.ts';
import { sysctl } from './sysctl.ts';
import { veth } from './veth.ts';
import { virtualService } from './virtual-service.ts';
import { vxlan } from './vxlan.ts';

/**
 * Every kind of kernel object that meshd manages. `KernelObject` and `ObjectKind` derive from this list, and so does what
 * the Linux driver has to implement: a kind that is missing there does not compile. docs/adding-a-kernel-object.md
 */
export const KINDS = {
  netns,
  veth,
  vxlan,
  sysctl,
  address,
  neighbour,
  fdb,
  route,
  rule,
  'host-rule': hostRule,
  ipset,
  'set-member': setMember,
  'set-entry': setEntry,
  chain,
  jump,
  'ipvs-timeouts': ipvsTimeouts,
  'virtual-service': virtualService,
  'real-server': realServer,
  'fast-path': fastPath,
  'fast-path-task': fastPathTask,
  'fast-path-port': fastPathPort,
  'fast-path-peer': fastPathPeer,
};

export type ObjectKind = keyof typeof KINDS;

/** The object a descriptor is for. */
type ObjectOf<D> = D extends Kind<infer T extends AnyObject> ? T : never;

export type KernelObject = ObjectOf<(typeof KINDS)[ObjectKind]>;

/** Does not compile if a kind is registered under another name than its objects have. */
KINDS satisfies { [K in ObjectKind]: { kind: K } };

import type { IpAddress } from '../address.ts';
import { FAST_PATH_PREFERENCE, FAST_PATH_PREFIX, HOST_LINKS, HOST_NETNS } from '../linux-names.ts';
import { either, flag, ipAddress, number, oneOf, optional, shape, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { insideLink, insideNetns, linkThing } from './things.ts';
import { inNetns } from './words.ts';

/** One of the programs of native/bpf, with the links it refers to by name; the driver knows their numbers. */
export type FastPathProgram =
  /**
   * Underlay → lb, for published ports of `address`, and out of VXLAN: `lb` and `router` are the host's ends of the veths
   * to them, `vni` the router's, `number` this node's.
   */
  | { type: 'host-in'; address: IpAddress; lb: string; router: string; vni: number; number: number }
  /** Records what the host translates to published ports of `address`; not packets from the lb. */
  | { type: 'host-sent'; address: IpAddress; lb: string }
  /** lb → the link that the host's routes select, for packets with source `address`. */
  | { type: 'host-out'; address: IpAddress }
  /** lb or vxlan → tasks. */
  | { type: 'router-in' }
  /** Task → lb or vxlan; `number` is this node's. */
  | { type: 'task-out'; vxlan: string; lb: string; number: number };

/** A tc filter of ours on a link. */
export interface FastPathFilter extends ObjectBase {
  kind: 'fast-path';
  link: string;
  /** For outgoing packets; otherwise for incoming ones. */
  egress?: boolean;
  /** Absent when the filter runs another program; `foreign` is set then. */
  program?: FastPathProgram;
}

const program = either(
  shape({ type: oneOf('host-in'), address: ipAddress, lb: text, router: text, vni: number, number }),
  shape({ type: oneOf('host-sent'), address: ipAddress, lb: text }),
  shape({ type: oneOf('host-out'), address: ipAddress }),
  shape({ type: oneOf('router-in') }),
  shape({ type: oneOf('task-out'), vxlan: text, lb: text, number }),
);

export const fastPath = defineKind<FastPathFilter>({
  kind: 'fast-path',
  fields: { link: text, egress: optional(flag), program: optional(program) },
  key: ({ netns, link, egress }) => fastPathKey(netns, link, egress),
  stage({ program }) {
    // The destinations of ports exist before packets are redirected to them.
    if (program?.type === 'host-in') return 'fast path of the host';
    return program?.type === 'router-in' ? 'fast path in routers' : 'fast path back';
  },
  // A filter is removed with its link. The host's underlay link is not an object of ours.
  inside: ({ netns, link }) =>
    netns === HOST_NETNS && !HOST_LINKS.includes(link) ? insideNetns(netns) : insideLink(netns, link),
  // Programs refer to links by ifindex and outlive them; they would redirect to a missing or another link.
  holds: ({ netns, program }) =>
    program === undefined ? [] : referencedLinks(program).map((link) => linkThing(netns, link)),
  after: ({ netns, link, program }) =>
    program?.type === 'host-in' ? [fastPathKey(netns, program.lb), fastPathKey(netns, link, true)] : [],
  /*
   * The programs are part of meshd and in no file, so where tc expects a file these lines have the program's name, with
   * its parameters behind `#`.
   */
  commands({ netns, link, egress, program }, verb) {
    const tc = inNetns('tc', netns);
    const place = `dev ${link} ${egress ? 'egress' : 'ingress'} pref ${FAST_PATH_PREFERENCE}`;
    if (verb === 'delete') return [`${tc} filter del ${place}`];
    const filter = `filter ${verb === 'create' ? 'add' : 'replace'} ${place} handle 1 bpf direct-action`;
    const object = program === undefined ? 'FOREIGN' : `${FAST_PATH_PREFIX}${program.type}${parameters(program)}`;
    // The link of host-in has a qdisc already, for host-sent.
    const needsQdisc = verb === 'create' && program?.type !== 'host-in';
    return [...(needsQdisc ? [`${tc} qdisc add dev ${link} clsact`] : []), `${tc} ${filter} object ${object}`];
  },
});

/** Links that a program refers to. */
export function referencedLinks(program: FastPathProgram): string[] {
  if (program.type === 'host-in') return [program.lb, program.router];
  if (program.type === 'host-sent') return [program.lb];
  return program.type === 'task-out' ? [program.vxlan, program.lb] : [];
}

/** Whether a program is for packets that leave by its link: FastPathFilter.egress. */
export function isForOutgoing({ type }: FastPathProgram): boolean {
  return type === 'host-sent';
}

export function fastPathKey(netns: string, link: string, egress = false): string {
  return `fast-path ${netns} ${link}${egress ? ' egress' : ''}`;
}

function parameters({ type: _, ...rest }: FastPathProgram): string {
  const words = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
  return words.length === 0 ? '' : ` # ${words.join(', ')}`;
}

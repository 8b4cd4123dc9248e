import type { Result } from '../base/errors.ts';
import { Attributes, AttributeWriter, LITTLE_ENDIAN } from './attributes.ts';
import {
  type CreateMode,
  createFlags,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_DUMP,
  NLM_F_REQUEST,
} from './message.ts';
import {
  decodeWithHeader,
  RTM_DELQDISC,
  RTM_DELTFILTER,
  RTM_GETQDISC,
  RTM_GETTFILTER,
  RTM_NEWQDISC,
  RTM_NEWTFILTER,
} from './rtnetlink.ts';

// include/uapi/linux/rtnetlink.h
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_CHAIN = 11;
/** sizeof(struct tcmsg) */
const TCMSG = 20;

// include/uapi/linux/pkt_sched.h: TC_H_CLSACT is TC_H_INGRESS too, so a link has one or the other.
const TC_H_CLSACT = 0xffff_fff1;
const CLSACT_HANDLE = 0xffff_0000;
/** Parents of filters for incoming and outgoing packets: TC_H_MIN_INGRESS and TC_H_MIN_EGRESS of clsact. */
export const INGRESS = 0xffff_fff2;
export const EGRESS = 0xffff_fff3;

// include/uapi/linux/pkt_cls.h
const TCA_BPF_FD = 6;
const TCA_BPF_NAME = 7;
const TCA_BPF_FLAGS = 8;
const TCA_BPF_TAG = 10;
const TCA_BPF_ID = 11;
/** What the program returns is the verdict, without actions behind it. */
const TCA_BPF_FLAG_ACT_DIRECT = 1;
/** CLS_BPF_NAME_LEN, net/sched/cls_bpf.c */
const NAME_LENGTH = 256;
const ETH_P_ALL = 3;

/** A queueing discipline as the kernel reports it. */
export interface Qdisc {
  /** ifindex. */
  index: number;
  kind: string;
  parent: number;
}

interface FilterLocation {
  /** ifindex. */
  index: number;
  /** INGRESS, EGRESS, or a class of another qdisc. */
  parent: number;
  /** `pref` of tc: lower ones run first. */
  preference: number;
  handle: number;
}

export interface NewBpfFilter extends FilterLocation {
  /** Descriptor of the program. */
  fd: number;
  /** As `tc filter show` prints it. */
  name: string;
}

/** A filter as the kernel reports it; of other kinds than bpf only its place. */
export interface Filter extends FilterLocation {
  kind: string;
  chain: number;
  bpf?: { name: string; id: number | undefined; tag: string | undefined; directAction: boolean } | undefined;
}

/** Whether it can have filters for incoming packets; the older `ingress` has them at the same place (ingress_tcf_block). */
export function isIngress({ kind }: Qdisc): boolean {
  return kind === 'clsact' || kind === 'ingress';
}

/** struct tcmsg, include/uapi/linux/rtnetlink.h */
function writeTcmsg(index: number, handle: number, parent: number, info: number): AttributeWriter {
  return new AttributeWriter(96).zeros(4).u32(index).u32(handle).u32(parent).u32(info);
}

/** TC_H_MAKE(preference << 16, protocol in network order) */
function tcmInfo(preference: number, protocol: number): number {
  return preference * 0x1_0000 + (((protocol & 0xff) << 8) | (protocol >> 8));
}

/** `tc qdisc add dev … clsact`: EEXIST where there is one, or the older `ingress`. */
export function newClsact(index: number): NetlinkRequest {
  const payload = writeTcmsg(index, CLSACT_HANDLE, TC_H_CLSACT, 0).putString(TCA_KIND, 'clsact', 16).finish();
  return { type: RTM_NEWQDISC, flags: createFlags('create'), payload };
}

/** `tc qdisc del dev … clsact`, with all filters on it; EINVAL or ENOENT where there is none. */
export function deleteClsact(index: number): NetlinkRequest {
  const payload = writeTcmsg(index, CLSACT_HANDLE, TC_H_CLSACT, 0).putString(TCA_KIND, 'clsact', 16).finish();
  return { type: RTM_DELQDISC, flags: NLM_F_REQUEST, payload };
}

/** `tc qdisc show`: of all links of the netns. */
export function dumpQdiscs(): NetlinkRequest {
  return { type: RTM_GETQDISC, flags: NLM_F_REQUEST | NLM_F_DUMP, payload: writeTcmsg(0, 0, 0, 0).finish() };
}

/** `tc filter add|replace dev … ingress|egress pref … handle … bpf direct-action …`, for all protocols. */
export function newBpfFilter(filter: NewBpfFilter, mode: CreateMode = 'create'): NetlinkRequest {
  const { index, parent, preference, handle, fd, name } = filter;
  const writer = writeTcmsg(index, handle, parent, tcmInfo(preference, ETH_P_ALL)).putString(TCA_KIND, 'bpf', 16);
  writer.nested(TCA_OPTIONS, () => {
    writer.putU32(TCA_BPF_FD, fd);
    writer.putString(TCA_BPF_NAME, name, NAME_LENGTH);
    writer.putU32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
  });
  return { type: RTM_NEWTFILTER, flags: createFlags(mode), payload: writer.finish() };
}

/** `tc filter del dev … ingress|egress pref … handle … bpf`: ENOENT where there is none. */
export function deleteBpfFilter({ index, parent, preference, handle }: FilterLocation): NetlinkRequest {
  const info = tcmInfo(preference, ETH_P_ALL);
  const payload = writeTcmsg(index, handle, parent, info).putString(TCA_KIND, 'bpf', 16).finish();
  return { type: RTM_DELTFILTER, flags: NLM_F_REQUEST, payload };
}

/** `tc filter show dev … ingress [pref …]`; nothing, and no error, where there is no such qdisc. */
export function dumpFilters(index: number, parent: number = INGRESS, preference = 0): NetlinkRequest {
  const payload = writeTcmsg(index, 0, parent, tcmInfo(preference, 0)).finish();
  return { type: RTM_GETTFILTER, flags: NLM_F_REQUEST | NLM_F_DUMP, payload };
}

/** Reads RTM_NEWQDISC and RTM_DELQDISC. */
export function decodeQdisc(message: NetlinkMessage): Result<Qdisc> {
  return decodeWithHeader('qdisc', [RTM_NEWQDISC, RTM_DELQDISC], TCMSG, message, (view, payload) => ({
    index: view.getInt32(4, LITTLE_ENDIAN),
    kind: new Attributes(payload, TCMSG).string(TCA_KIND) ?? '',
    parent: view.getUint32(12, LITTLE_ENDIAN),
  }));
}

/**
 * Reads RTM_NEWTFILTER and RTM_DELTFILTER. Of each preference a dump has an entry for the classifier itself, with handle
 * 0, before those of its filters (tcf_chain_dump).
 */
export function decodeFilter(message: NetlinkMessage): Result<Filter> {
  return decodeWithHeader('filter', [RTM_NEWTFILTER, RTM_DELTFILTER], TCMSG, message, (view, payload) => {
    const attributes = new Attributes(payload, TCMSG);
    const kind = attributes.string(TCA_KIND) ?? '';
    const options = kind === 'bpf' ? attributes.nested(TCA_OPTIONS) : undefined;
    return {
      index: view.getInt32(4, LITTLE_ENDIAN),
      handle: view.getUint32(8, LITTLE_ENDIAN),
      parent: view.getUint32(12, LITTLE_ENDIAN),
      preference: view.getUint32(16, LITTLE_ENDIAN) >>> 16,
      kind,
      chain: attributes.u32(TCA_CHAIN) ?? 0,
      bpf: options && readBpf(options),
    };
  });
}

function readBpf(options: Attributes): Filter['bpf'] {
  const tag = options.bytes(TCA_BPF_TAG);
  return {
    name: options.string(TCA_BPF_NAME) ?? '',
    id: options.u32(TCA_BPF_ID),
    tag: tag && [...tag].map((byte) => byte.toString(16).padStart(2, '0')).join(''),
    directAction: ((options.u32(TCA_BPF_FLAGS) ?? 0) & TCA_BPF_FLAG_ACT_DIRECT) !== 0,
  };
}

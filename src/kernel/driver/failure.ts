import { MeshError } from '../../base/errors.ts';
import type { Op } from '../../model/kernel-state.ts';
import { FAST_PATH_PREFERENCE } from '../../model/names.ts';
import { renderOp } from '../../model/render.ts';
import type { RequestFailure } from './exchange.ts';
import { toRequestFailure } from './transport.ts';

/** Why something was not done: the kernel's answer, or an error of ours that says enough. */
export type Failure = RequestFailure | MeshError;

/** What was thrown, as a failure of the step it was thrown in. */
export function toFailure(thrown: unknown): Failure {
  return thrown instanceof MeshError ? thrown : toRequestFailure(thrown);
}

/** Codes by which the kernel says that what is to be made is there. */
const PRESENT = new Set(['EEXIST', 'IPSET_ERR_EXIST', 'IPSET_ERR_EXIST_SETNAME2']);
/** Codes by which it says that what is to be deleted, or what it was in, is not there. */
const ABSENT = new Set(['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL', 'IPSET_ERR_EXIST']);

/** Whether a failed Op may have its result all the same, so that a second look decides. */
export function needsVerification(op: Op, failure: Failure): boolean {
  if (failure instanceof Error) return false;
  if (failure.outcomeUnknown) return true;
  return op.verb === 'create' ? PRESENT.has(failure.code) : op.verb === 'delete' && ABSENT.has(failure.code);
}

/** The Op in CLI words, the kernel's own words, and what to do about it where that is known. */
export function toMeshError(op: Op, failure: Failure): MeshError {
  const command = renderOp(op).join(' && ') || `${op.verb} ${op.object.kind}`;
  if (failure instanceof MeshError) {
    return new MeshError(failure.code, `${command}: ${failure.message}`, { retry: failure.retry, cause: failure });
  }
  const { code, text } = failure;
  const words = text === undefined || text.startsWith(code) ? (text ?? code) : `${code} (${text})`;
  const hint = remedyFor(op, code);
  return new MeshError('kernel', `${command}: ${words}${hint === undefined ? '' : `; ${hint}`}`, {
    retry: failure.outcomeUnknown === true || TRANSIENT.has(code),
    cause: failure,
  });
}

/** Codes that may be gone by the next try without anybody doing anything. */
const TRANSIENT = new Set(['EBUSY', 'EAGAIN', 'EINTR', 'ENOBUFS', 'ENOMEM', 'IPSET_ERR_BUSY']);

function remedyFor(op: Op, code: string): string | undefined {
  const { object } = op;
  if (code === 'EPERM' || code === 'EACCES') return 'meshd needs CAP_NET_ADMIN and CAP_SYS_ADMIN: run it as root';
  if (object.kind === 'virtual-service' && code === 'ENOENT' && op.verb !== 'delete') {
    return `this kernel has no scheduler ${object.scheduler}: try \`modprobe ip_vs_${object.scheduler}\``;
  }
  if (object.kind === 'vxlan' && code === 'EEXIST') {
    return `another vxlan device uses VNI ${object.vni} on port ${object.port}: see \`ip -d link show type vxlan\``;
  }
  if (object.kind === 'vxlan' && code === 'EADDRINUSE') {
    return `another program or a vxlan device without gbp holds UDP port ${object.port}: see \`ss -lunp sport = :${object.port}\``;
  }
  if (code === 'EOPNOTSUPP' && (object.kind === 'vxlan' || object.kind === 'veth')) {
    return `try \`modprobe ${object.kind}\``;
  }
  if (object.kind === 'fast-path' && code === 'EEXIST') {
    return `somebody else's filter is at our place: see \`tc filter show dev ${object.link} ingress pref ${FAST_PATH_PREFERENCE}\``;
  }
  if (object.kind === 'fast-path' && code === 'ENOENT' && op.verb !== 'delete') {
    return 'try `modprobe sch_ingress` and `modprobe cls_bpf`';
  }
  if (code === 'IPSET_ERR_FIND_TYPE') return 'try `modprobe ip_set_bitmap_port`';
  if (code === 'IPSET_ERR_BUSY') return 'a rule still uses the set: see `iptables-save | grep match-set`';
  return undefined;
}

/** A link that is not there, in the form of the system error that SIOCGIFINDEX gives, so that it counts as absent. */
export function linkNotFound(netns: string, name: string): Error {
  return Object.assign(new Error(`${netns} has no link ${name}`), { code: 'ENODEV', syscall: 'ioctl' });
}

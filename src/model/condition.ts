import { boundedParams, type CodedText, fillTemplate, type ParamNames, renderUnknown } from './coded-text.ts';

/**
 * What the manager does about a condition of a node. `avoided`: it places tasks there only if no other node is suitable;
 * `noNewTasks`: it places none there; `unreachable`: the same, and no node gets endpoints on the other side of the node's
 * VXLAN.
 */
export type ConditionEffect = 'avoided' | 'noNewTasks' | 'unreachable';

/**
 * What is wrong on a node now, by code. The text says what happened and what it means; the remedy what to do. `check`: the
 * kind of thing, for those that the doctor examines, too.
 */
export const CONDITIONS = {
  UnderlayAddressMissing: {
    check: 'underlay',
    effect: 'unreachable',
    text: 'no interface of this node has {address}, or it is down. The other nodes send VXLAN to it: this node gets no new tasks, and its tasks are reached through this node only',
    remedy: 'ip link set … up and ip addr add {address} dev …, or start meshd with --advertise and an address it has',
  },
  UnderlayDisconnected: {
    check: 'underlay',
    effect: 'unreachable',
    text: 'this node cannot send to the other nodes from {address}: {problem}. It gets no new tasks, and its tasks are reached through this node only',
    remedy: 'ip link; ip route get ADDRESS from {address}, with the address of another node',
  },
  OverlayOverlap: {
    check: 'overlap',
    text: 'networks of this node overlap the overlay network {overlay}: {networks}. Clients with addresses of the overlay get no answer',
    remedy: 'use other addresses there, or a new cluster with another --ingress-subnet',
  },
  ConntrackFull: {
    check: 'conntrack',
    effect: 'avoided',
    text: 'the connection table holds {count} of {max} entries ({percent} %): new connections time out; this node gets new tasks only if no other is suitable',
    remedy: '{command}',
  },
  DiskNearlyFull: {
    check: 'disk',
    effect: 'noNewTasks',
    text: '{directory} has {free} MiB free of {size}: this node gets no new tasks',
    remedy: 'df -h {directory}; du -xh {directory} | sort -h | tail',
  },
  ManagerUnreachable: {
    text: 'no manager reachable ({reason}); this node keeps using its last assignment',
    remedy: 'systemctl status meshd on the manager; check the address given with --join and the network between them',
  },
  ClusterMismatch: {
    text: 'this node belongs to cluster {own_cluster}, the manager to {manager_cluster}',
    remedy: 'specify the right --join, or move the node with `meshd reset --purge`',
  },
  KernelUnavailable: {
    effect: 'noNewTasks',
    text: 'the kernel state cannot be read or changed: {error}',
    remedy: 'journalctl -u meshd -e on this node',
  },
  KernelOperationFailed: {
    text: 'the kernel rejected {error} (failed operations: {count}); meshd keeps retrying',
    remedy: 'meshctl diff self, on this node',
  },
  DriftConflict: {
    text: '{objects} (objects in conflict: {count}) is repeatedly modified by another process; repairs are rate-limited',
    remedy: 'find and stop the program that modifies it: meshctl history on this node',
  },
  HealthEndpointPortInUse: {
    text: 'the health endpoint cannot listen on {listen}: another program uses that port',
    remedy: 'find it with `ss -ltnp` and stop it, or specify another --health-listen ADDRESS:PORT, or off',
  },
  HealthEndpointAddressMissing: {
    text: 'the health endpoint cannot listen on {listen}: this node does not have that address',
    remedy: 'specify another --health-listen ADDRESS:PORT, or off',
  },
  HealthEndpointFailed: {
    text: 'the health endpoint cannot listen on {listen}: {error}',
    remedy: 'specify another --health-listen ADDRESS:PORT, or off',
  },
} as const;

export type ConditionCode = keyof typeof CONDITIONS;

type Templates<C extends ConditionCode> = (typeof CONDITIONS)[C]['text' | 'remedy'];
type ConditionParams<C extends ConditionCode> = Record<ParamNames<Templates<C>>, string | number>;

/** A condition as an agent reports it; `code` may be one of a newer version. */
export type Condition = CodedText;

export function condition<C extends ConditionCode>(code: C, params: ConditionParams<C>): Condition {
  return { code, params: boundedParams(params) };
}

/** `DriftConflict: `set-member host mesh-pub-tcp 8080` … is repeatedly modified by another process; …` */
export function renderCondition(reported: Condition): string {
  if (!isConditionCode(reported.code)) return renderUnknown(reported);
  const { text, remedy } = CONDITIONS[reported.code];
  return `${reported.code}: ${fillTemplate(text, reported.params)}. ${fillTemplate(remedy, reported.params)}`;
}

/** Undefined for a condition that the manager only shows, and for a code that it does not know. */
export function conditionEffect(code: string): ConditionEffect | undefined {
  if (!isConditionCode(code)) return undefined;
  const texts = CONDITIONS[code];
  return 'effect' in texts ? texts.effect : undefined;
}

/** Whether it means that the kernel does not hold the assignment. */
export function isKernelCondition({ code }: Condition): boolean {
  return code === 'KernelUnavailable' || code === 'KernelOperationFailed';
}

export function isConditionCode(code: string): code is ConditionCode {
  return Object.hasOwn(CONDITIONS, code);
}

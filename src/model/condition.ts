import { boundedParams, type CodedText, fillTemplate, type ParamNames, renderUnknown } from './coded-text.ts';

/** What is wrong on a node now, by code. The text says what happened and what it means; the remedy what to do. */
export const CONDITIONS = {
  ManagerUnreachable: {
    text: 'no manager reachable ({reason}); this node keeps using its last assignment',
    remedy: 'systemctl status meshd on the manager; check the address given with --join and the network between them',
  },
  ClusterMismatch: {
    text: 'this node belongs to cluster {own_cluster}, the manager to {manager_cluster}',
    remedy: 'specify the right --join, or move the node with `meshd reset --purge`',
  },
  KernelUnavailable: {
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

type ConditionParams<C extends ConditionCode> = Record<ParamNames<(typeof CONDITIONS)[C]['text']>, string | number>;

/** A condition as an agent reports it; `code` may be one of a newer version. */
export type Condition = CodedText;

export function condition<C extends ConditionCode>(code: C, params: ConditionParams<C>): Condition {
  return { code, params: boundedParams(params) };
}

/** `DriftConflict: `set-member host mesh-pub-tcp 8080` … is repeatedly modified by another process; …` */
export function renderCondition(reported: Condition): string {
  if (!isConditionCode(reported.code)) return renderUnknown(reported);
  const { text, remedy } = CONDITIONS[reported.code];
  return `${reported.code}: ${fillTemplate(text, reported.params)}. ${remedy}`;
}

/** Whether it means that the kernel does not hold the assignment. */
export function isKernelCondition({ code }: Condition): boolean {
  return code === 'KernelUnavailable' || code === 'KernelOperationFailed';
}

export function isConditionCode(code: string): code is ConditionCode {
  return Object.hasOwn(CONDITIONS, code);
}

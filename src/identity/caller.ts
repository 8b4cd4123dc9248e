/** Who makes a call. Comes from the transport, never from a message. */
export type Caller =
  /** A process on this machine, over a unix socket (SO_PEERCRED). */
  | { kind: 'local'; uid: number; pid: number; access: LocalAccess }
  /** Another machine's agent. Without `nodeId` its identity is not proven (`--insecure-dev`). */
  | { kind: 'node'; nodeId?: string; role?: 'manager' | 'worker' }
  /** A person with a certificate of the cluster. */
  | { kind: 'admin'; name: string };

/** `owner`: root, or the user that this meshd runs as. `group`: a member of the socket's group. */
type LocalAccess = 'owner' | 'group' | 'none';

/** Credentials of the process at the other end of a unix socket. */
export interface Credentials {
  pid: number;
  uid: number;
  gid: number;
  /** Supplementary groups; undefined on kernels that do not report them. */
  groups?: readonly number[];
}

/** Of the meshd that is called: its effective user, and the numeric group whose members may use it, if there is one. */
export interface LocalPolicy {
  uid: number;
  group: number | undefined;
}

/** The caller behind credentials; undefined credentials (the connection was closed meanwhile) have no access. */
export function localCaller(credentials: Credentials | undefined, policy: LocalPolicy): Caller {
  if (credentials === undefined) return { kind: 'local', uid: -1, pid: 0, access: 'none' };
  const { uid, pid, gid, groups = [] } = credentials;
  const isMember = policy.group !== undefined && [gid, ...groups].includes(policy.group);
  const access = uid === 0 || uid === policy.uid ? 'owner' : isMember ? 'group' : 'none';
  return { kind: 'local', uid, pid, access };
}

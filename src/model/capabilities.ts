/** Linux capabilities in the order of their numbers (include/uapi/linux/capability.h), without `CAP_`. */
export const CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
] as const;
export type Capability = (typeof CAPABILITIES)[number];

/** Entries of `cap_add` and `cap_drop`. */
export const CAPABILITY_NAMES = ['ALL', ...CAPABILITIES] as const;
export type CapabilityOrAll = (typeof CAPABILITY_NAMES)[number];

/** Docker's default list without MKNOD: Docker pairs it with a list of allowed devices, which process tasks do not have. */
const DEFAULT_CAPABILITIES: readonly Capability[] = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'NET_RAW',
  'SYS_CHROOT',
  'AUDIT_WRITE',
  'SETFCAP',
];

/** What a service requests; absent fields mean the defaults. Neither list names a capability of the other. */
export interface RequestedPrivileges {
  capAdd?: CapabilityOrAll[];
  capDrop?: CapabilityOrAll[];
  /** Every capability, and programs may gain more by set-user-id; excludes the lists. */
  privileged?: boolean;
}

/** Without the other fields of a spec. */
export function requestedPrivileges({ capAdd, capDrop, privileged }: RequestedPrivileges): RequestedPrivileges {
  return {
    ...(capAdd === undefined ? {} : { capAdd }),
    ...(capDrop === undefined ? {} : { capDrop }),
    ...(privileged === undefined ? {} : { privileged }),
  };
}

interface Privileges {
  /** The bounding set: all that any process of the task can ever have. A task of uid 0 starts with all of it. */
  capabilities: Capability[];
  /** What a task of another user starts with: only what was requested by name. */
  ambient: Capability[];
  /** False sets no_new_privs: set-user-id programs such as sudo gain nothing. */
  newPrivileges: boolean;
}

/** Resolves a request as Docker does: `ALL` in one list leaves the names in the other as exceptions. */
export function resolvePrivileges({ capAdd = [], capDrop = [], privileged }: RequestedPrivileges): Privileges {
  if (privileged === true) return { capabilities: [...CAPABILITIES], ambient: [], newPrivileges: true };
  const base = capAdd.includes('ALL') ? CAPABILITIES : DEFAULT_CAPABILITIES;
  const isDropped = (name: Capability) => capDrop.includes('ALL') || capDrop.includes(name);
  const capabilities = CAPABILITIES.filter(
    (name) => capAdd.includes(name) || (base.includes(name) && !isDropped(name)),
  );
  const ambient = capabilities.filter((name) => capAdd.includes(name) || capAdd.includes('ALL'));
  return { capabilities, ambient, newPrivileges: false };
}

/** Which error codes of a subsystem mean what. Names as errno(3) has them, or as netlink/errno.ts names those of ipset. */
export interface FailureCodes {
  /** What is to be created exists already. */
  present: ReadonlySet<string>;
  /** What is to be deleted, or what it was part of, does not exist. */
  absent: ReadonlySet<string>;
  /** A later attempt may succeed without any change by a person. */
  transient: ReadonlySet<string>;
}

const TRANSIENT = ['EBUSY', 'EAGAIN', 'EINTR', 'ENOBUFS', 'ENOMEM'];
const ABSENT = ['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL'];

/** rtnetlink, IPVS, files and namespaces answer with plain errno values. */
export const ERRNO_CODES: FailureCodes = {
  present: new Set(['EEXIST']),
  absent: new Set(ABSENT),
  transient: new Set(TRANSIENT),
};

/** ipset has codes of its own (include/uapi/linux/netfilter/ipset/ip_set.h); one means both "exists" and "does not exist". */
export const IPSET_CODES: FailureCodes = {
  present: new Set(['EEXIST', 'IPSET_ERR_EXIST', 'IPSET_ERR_EXIST_SETNAME2']),
  absent: new Set([...ABSENT, 'IPSET_ERR_EXIST']),
  transient: new Set([...TRANSIENT, 'IPSET_ERR_BUSY']),
};

/** The remedy for a kernel module that is missing. */
export function tryModprobe(...modules: readonly string[]): string {
  return `try ${modules.map((name) => `\`modprobe ${name}\``).join(' and ')}`;
}

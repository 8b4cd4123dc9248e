/**
 * Names of Linux error numbers 1..133, include/uapi/asm-generic/errno-base.h and errno.h; `-` marks unused numbers.
 * x86, arm, riscv, ppc (but for 58) and s390 share them; mips and sparc do not and are not supported.
 */
const NAMES = (
  '- EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ' +
  'ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ' +
  'ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT ' +
  'EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ' +
  'ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ' +
  'ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP ' +
  'EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS ' +
  'EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE ' +
  'EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED ' +
  'EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON'
).split(' ');

/** ENOTSUPP, include/linux/errno.h: kernel-internal, but some netlink handlers return it to user space. */
const ENOTSUPP = 524;

/** Private codes of ipset from 4096 on, include/uapi/linux/netfilter/ipset/ip_set.h enum ipset_errno. */
const IPSET_PRIVATE = 4096;
const IPSET_TYPE_SPECIFIC = 4352;
const IPSET_NAMES = [
  'PRIVATE',
  'PROTOCOL',
  'FIND_TYPE',
  'MAX_SETS',
  'BUSY',
  'EXIST_SETNAME2',
  'TYPE_MISMATCH',
  'EXIST',
  'INVALID_CIDR',
  'INVALID_NETMASK',
  'INVALID_FAMILY',
  'TIMEOUT',
  'REFERENCED',
  'IPADDR_IPV4',
  'IPADDR_IPV6',
  'COUNTER',
  'COMMENT',
  'INVALID_MARKMASK',
  'SKBINFO',
  'BITMASK_NETMASK_EXCL',
];
const BITMAP_NAMES = ['BITMAP_RANGE', 'BITMAP_RANGE_SIZE'];
const HASH_NAMES = ['HASH_FULL', 'HASH_ELEM', 'INVALID_PROTO', 'MISSING_PROTO', 'HASH_RANGE_UNSUPPORTED', 'HASH_RANGE'];

/**
 * `EEXIST` for 17, `IPSET_ERR_BUSY` for 4100; unknown numbers give `errno 9999`. 0 gives `OK`.
 * ipset's codes from 4352 on differ between bitmap and hash sets: pass the set type to resolve them.
 */
export function errorName(errno: number, setType?: string): string {
  if (errno === 0) return 'OK';
  if (errno === ENOTSUPP) return 'ENOTSUPP';
  if (errno >= IPSET_TYPE_SPECIFIC) {
    const names = setType?.startsWith('bitmap:') ? BITMAP_NAMES : setType?.startsWith('hash:') ? HASH_NAMES : [];
    const name = names[errno - IPSET_TYPE_SPECIFIC];
    return name === undefined ? `IPSET_ERR_TYPE_SPECIFIC+${errno - IPSET_TYPE_SPECIFIC}` : `IPSET_ERR_${name}`;
  }
  if (errno >= IPSET_PRIVATE) {
    const name = IPSET_NAMES[errno - IPSET_PRIVATE];
    return name === undefined ? `errno ${errno}` : `IPSET_ERR_${name}`;
  }
  const name = NAMES[errno];
  return name === undefined || name === '-' ? `errno ${errno}` : name;
}

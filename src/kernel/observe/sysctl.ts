import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import { inNetns } from '../../../native/index.ts';

/**
 * /proc/sys/net shows the namespace of the thread that opens a file (net_ctl_set in net/sysctl_net.c reads
 * current->nsproxy), so reading and writing happen inside it, all of one netns in one visit.
 */

/** The kernel gives a value in one piece; audits read many, and each takes an allocation and two system calls less. */
const READ_BUFFER = Buffer.alloc(4096);

/** Values by dotted name; names this kernel does not have are left out. Fields are separated by one space. */
export function readSysctls(netnsPath: string, names: readonly string[]): Map<string, string> {
  const values = new Map<string, string>();
  if (names.length === 0) return values;
  inNetns(netnsPath, () => {
    for (const name of names) {
      const value = readValue(sysctlPath(name));
      if (value !== undefined) values.set(name, value);
    }
  });
  return values;
}

/** One outcome per entry, in order: undefined when written, else the kernel's error. */
export function writeSysctls(
  netnsPath: string,
  entries: readonly { name: string; value: string }[],
): (NodeJS.ErrnoException | undefined)[] {
  return inNetns(netnsPath, () =>
    entries.map(({ name, value }) => {
      try {
        writeFileSync(sysctlPath(name), value);
        return undefined;
      } catch (thrown) {
        return thrown as NodeJS.ErrnoException;
      }
    }),
  );
}

/** `net.ipv4.conf.eth0/1.rp_filter` → `/proc/sys/net/ipv4/conf/eth0.1/rp_filter`, as sysctl(8) reads it. */
export function sysctlPath(name: string): string {
  const parts = name.split('.').map((part) => part.replaceAll('/', '.'));
  if (parts.some((part) => part === '' || part === '.' || part === '..'))
    throw new RangeError(`${name} is not a sysctl`);
  return `/proc/sys/${parts.join('/')}`;
}

function readValue(file: string): string | undefined {
  try {
    const fd = openSync(file, 'r');
    try {
      return READ_BUFFER.toString('latin1', 0, readSync(fd, READ_BUFFER)).trim().replace(/\s+/g, ' ');
    } finally {
      closeSync(fd);
    }
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    // EINVAL, EIO: there, but not readable (net.ipv6.*.stable_secret before it is set).
    if (code === 'ENOENT' || code === 'EINVAL' || code === 'EIO') return undefined;
    throw thrown;
  }
}

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createNetns, deleteNetns } from '../../../native/index.ts';
import { MeshError } from '../../base/errors.ts';
import { HOST_NETNS, LB_NETNS, NETNS_PREFIX, networkNetns, taskNetns } from '../../model/linux-names.ts';

/** Where the namespaces of this node are pinned, by their names in the model. */
export interface Namespaces {
  readonly runDir: string;
  /** A path for setns(2). */
  path(netns: string): string;
  /** Changes when the namespace behind the name is another one; undefined when there is none. */
  identity(netns: string): string | undefined;
  /** Those of ours that exist now, without the host's. */
  list(): string[];
  /** Whether there is a file of ours without a namespace mounted on it: one that is being created, or left over. */
  hasUnmountedFiles(): boolean;
  /** Pins a new one. A leftover file without a namespace behind it is replaced; EEXIST for a live one. */
  create(netns: string): void;
  remove(netns: string): void;
}

/** Namespaces pinned as files in `runDir`, as iproute2 does; throws what node:fs throws but for absence. */
export function openNamespaces(runDir: string): Namespaces {
  // Not /proc/self: the path is also given to children.
  const hostPath = `/proc/${process.pid}/ns/net`;
  const path = (netns: string) => (netns === HOST_NETNS ? hostPath : join(runDir, validName(netns)));
  // All namespaces are files of one filesystem, so one stat identifies them; this is called very often.
  const nsfs = statSync(hostPath).dev;
  const identity = (netns: string) => {
    const file = statSync(path(netns), { throwIfNoEntry: false });
    return file?.dev === nsfs ? `${nsfs}:${file.ino}` : undefined;
  };
  return {
    runDir,
    path,
    identity,
    list() {
      const names = listNames(runDir).filter((name) => isOurNetns(name) && identity(name) !== undefined);
      return names.sort();
    },
    hasUnmountedFiles: () => listNames(runDir).some((name) => isOurNetns(name) && identity(name) === undefined),
    create(netns) {
      if (identity(netns) === undefined && listNames(runDir).includes(netns)) deleteNetns(path(netns));
      createNetns(path(netns));
    },
    remove: (netns) => deleteNetns(path(netns)),
  };
}

/** Ours by name (model/linux-names.ts). */
export function isOurNetns(name: string): boolean {
  return name.startsWith(NETNS_PREFIX);
}

const NETWORK_PREFIX = networkNetns('');
const TASK_PREFIX = taskNetns('');

/**
 * How far a netns is from the outside. A veth pair belongs to its end with the lower rank: host before lb before
 * network before task.
 */
export function netnsDepth(netns: string): number {
  if (netns === HOST_NETNS) return 0;
  if (netns === LB_NETNS) return 1;
  if (netns.startsWith(NETWORK_PREFIX)) return 2;
  return 3;
}

/** In a task's netns meshd manages links, addresses, routes and neighbours only. */
export function isTaskNetns(netns: string): boolean {
  return netns.startsWith(TASK_PREFIX);
}

function validName(netns: string): string {
  if (isOurNetns(netns) && /^[\w.-]+$/.test(netns) && netns.length <= 255) return netns;
  throw new MeshError('invalid', `${JSON.stringify(netns)} is not a network namespace of meshd`);
}

function listNames(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw thrown;
  }
}

import { type ChildProcess, spawn } from 'node:child_process';
import { MeshError } from '../../base/errors.ts';
import type { Namespaces } from './namespaces.ts';

/** The only name in the namespaces of a scratch netns. */
export const SCRATCH_NETNS = 'scratch';

/** A netns that exists as long as a child process of ours; it is removed even when we crash. */
export async function openScratchNetns(): Promise<{ path: string; namespaces: Namespaces; end(): void }> {
  const child = await startHolderProcess();
  const path = `/proc/${child.pid}/ns/net`;
  const unsupported = () => {
    throw new MeshError('internal', 'the scratch netns is the only one here');
  };
  const namespaces: Namespaces = {
    runDir: '',
    path: () => path,
    identity: () => SCRATCH_NETNS,
    list: () => [],
    hasUnmountedFiles: () => false,
    create: unsupported,
    remove: unsupported,
  };
  return { path, namespaces, end: () => child.stdin?.end() };
}

/** `unshare --net cat`: it has its own netns from its first answer on, and ends with its standard input. */
function startHolderProcess(): Promise<ChildProcess> {
  return new Promise((resolve, reject) => {
    const child = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
    child.on('error', (error) =>
      reject(new MeshError('unsupported', `cannot run unshare(1) of util-linux: ${error.message}`)),
    );
    child.on('exit', (status) =>
      reject(new MeshError('kernel', `cannot make a network namespace (unshare ended with ${status})`)),
    );
    child.stdout.once('data', () => resolve(child));
    child.stdin.on('error', () => undefined);
    child.stdin.write('\n');
  });
}

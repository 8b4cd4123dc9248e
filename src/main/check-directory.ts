import { statSync } from 'node:fs';
import { MeshError } from '../base/errors.ts';

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/**
 * Throws MeshError `permission` for a directory in which another user than root or this process's could put files in the
 * place of ours. `sticky`: a directory such as /tmp is accepted, where others may create files but not replace ours.
 */
export function checkDirectory(path: string, { sticky = false } = {}): void {
  const { uid, mode } = statSync(path);
  if (uid !== 0 && uid !== process.geteuid!())
    throw new MeshError(
      'permission',
      `${path} belongs to user ${uid}: change its owner to root, or use another directory`,
    );
  if ((mode & WRITABLE_BY_OTHERS) === 0 || (sticky && (mode & STICKY) !== 0)) return;
  throw new MeshError(
    'permission',
    `${path} can be changed by other users: run chmod go-w ${path}, or use another directory`,
  );
}

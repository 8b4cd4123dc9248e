import { error, type Finding, ok, warning } from '../../model/doctor.ts';

/** What the node needs beside its kernel, and what it says of itself. */
export interface NodeStateFacts {
  stateDir: string;
  /** Bytes free for us and in all on its file system; undefined when it cannot be seen. */
  disk: { free: number; size: number } | undefined;
  /** Steps that would make the kernel what it should be. */
  steps: readonly string[];
  /** Why they cannot be told. */
  stepsError: string;
  conditions: readonly string[];
  /** `8080/tcp: nginx (pid 812) listens on …` */
  degraded: readonly string[];
}

const MEBIBYTE = 1024 * 1024;
const DISK_LIMITS = { error: 64 * MEBIBYTE, warning: 512 * MEBIBYTE, share: 0.05 };

export function checkNodeState({ stateDir, disk, steps, stepsError, conditions, degraded }: NodeStateFacts): Finding[] {
  return [
    ...checkDisk(stateDir, disk),
    checkKernel(steps, stepsError),
    ...(conditions.length === 0
      ? [ok('condition', 'meshd on this node has nothing to complain of')]
      : conditions.map((text) => error('condition', text, 'journalctl -u meshd -e on this node'))),
    ...(degraded.length === 0
      ? [ok('port', 'no program of this node is in the way of a published port, nor a published port in its')]
      : degraded.map((text) =>
          warning('port', text, 'ss -lnptu on this node; publish another port or end the program'),
        )),
  ];
}

function checkDisk(stateDir: string, disk: NodeStateFacts['disk']): Finding[] {
  if (disk === undefined) return [];
  const { free, size } = disk;
  const what = `${stateDir} has ${Math.round(free / MEBIBYTE)} MiB free of ${Math.round(size / MEBIBYTE)}`;
  const remedy = `df -h ${stateDir}; du -xh ${stateDir} | sort -h | tail`;
  if (free < DISK_LIMITS.error) return [error('disk', `${what}: nothing can be stored soon`, remedy)];
  if (free < DISK_LIMITS.warning && free < size * DISK_LIMITS.share) return [warning('disk', what, remedy)];
  return [ok('disk', what)];
}

/** meshd repairs within seconds: what is left is what it was not able to. */
function checkKernel(steps: readonly string[], stepsError: string): Finding {
  if (stepsError !== '') return error('kernel', `the kernel cannot be looked at: ${stepsError}`, 'meshctl diff self');
  if (steps.length === 0) return ok('kernel', 'the kernel holds what it should');
  const more = steps.length > 1 ? ` and ${steps.length - 1} steps more` : '';
  return warning(
    'kernel',
    `the kernel is not what it should be: ${steps[0]}${more}`,
    'meshctl diff self, on this node',
  );
}

import type { TaskStatus } from '../../model/cluster.ts';
import type { EndedTask } from '../../runtime/runtime.ts';

/** What to say of a task that has ended; `stopped` when its end was asked for, after `grace` ms by force. */
export function statusFromExit(
  { exit, stopRequested: stopping }: EndedTask,
  stopped: boolean,
  gracePeriod: number,
): Pick<TaskStatus, 'state' | 'message' | 'error' | 'exitCode'> {
  const exitCode = exit.code === undefined ? {} : { exitCode: exit.code };
  const end =
    exit.error ?? (exit.signal === undefined ? `exit code ${exit.code ?? 'unknown'}` : `killed by ${exit.signal}`);
  if (stopped || stopping) {
    const forced = exit.signal === 'SIGKILL' ? `did not end within its grace period of ${gracePeriod / 1000} s: ` : '';
    return { state: 'shutdown', message: `${forced}${end}`, error: '', ...exitCode };
  }
  if (exit.code === 0) return { state: 'complete', message: end, error: '', ...exitCode };
  return { state: 'failed', message: '', error: end, ...exitCode };
}

import type { TaskReason, TaskStatus } from '../../model/cluster.ts';
import type { EndedTask } from '../../runtime/runtime.ts';

type ExitStatus = Pick<TaskStatus, 'state' | 'message' | 'error' | 'exitCode'> & { reason: TaskReason };

/** The status of a task that has ended; `stopped` when its end was requested, with SIGKILL after `gracePeriod` ms. */
export function statusFromExit({ exit, stopRequested }: EndedTask, stopped: boolean, gracePeriod: number): ExitStatus {
  const exitCode = exit.code === undefined ? {} : { exitCode: exit.code };
  const end =
    exit.error ?? (exit.signal === undefined ? `exit code ${exit.code ?? 'unknown'}` : `killed by ${exit.signal}`);
  if (stopped || stopRequested) {
    const forced = exit.signal === 'SIGKILL' ? `did not end within its grace period of ${gracePeriod / 1000} s: ` : '';
    return { state: 'shutdown', reason: 'Stopped', message: `${forced}${end}`, error: '', ...exitCode };
  }
  if (exit.code === 0 && exit.left !== undefined) {
    const message = `${end}, but left ${exit.left} behind, which was killed: run it in the foreground`;
    return { state: 'complete', reason: 'Daemonized', message, error: '', ...exitCode };
  }
  if (exit.code === 0) return { state: 'complete', reason: 'Exited', message: end, error: '', ...exitCode };
  const reason = exit.error !== undefined ? 'StartFailed' : exit.signal !== undefined ? 'Killed' : 'Exited';
  return { state: 'failed', reason, message: '', error: end, ...exitCode };
}

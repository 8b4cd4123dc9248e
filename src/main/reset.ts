import { rmSync } from 'node:fs';
import { resetNode } from '../agent/reconcile/reset.ts';
import { openHistory } from '../agent/session/history.ts';
import { systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { processStartTime } from '../kernel/host/process.ts';
import { openKernel, openRuntime } from './agent-role.ts';
import type { ResetOptions } from './meshd-options.ts';
import { lockStateDir } from './state-lock.ts';

/** `meshd reset`: fails while a meshd runs on the state directory. Returns the message for the user. */
export async function runReset({ stateDir, force, purge }: ResetOptions, log: Log): Promise<string> {
  const lock = lockStateDir(stateDir, processStartTime);
  const kernel = await openKernel(log);
  const runtime = openRuntime(stateDir, systemClock, log);
  try {
    const history = openHistory(stateDir, systemClock, log);
    const { tasks, objects } = await resetNode({ kernel, runtime, clock: systemClock, log, history, force });
    await history.flush();
    if (purge) rmSync(stateDir, { recursive: true, force: true });
    return `ended ${tasks} tasks, removed ${objects} kernel objects${purge ? ` and ${stateDir}` : ''}`;
  } finally {
    runtime.close();
    kernel.close();
    lock.release();
  }
}

import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { ApplyReport } from '../../kernel/kernel.ts';
import type { ChangeReason, ChangeRecord } from '../../model/change-record.ts';
import { describeDrift } from '../../model/drift.ts';
import type { Op } from '../../model/kernel-state.ts';
import { renderOp } from '../../model/render.ts';

/** Operations that one line of the log, or one entry of the history, lists. */
const MAX_LISTED = 50;

/** Why the kernel is changed. */
export interface ChangeCause {
  why: ChangeReason;
  /** Of a repair: what differed from the desired state. */
  wrong: string[];
  /** Of a repair: the process that changed it, if the kernel reports that. */
  by: string[];
}

export function repairCause(repaired: readonly Op[], by: string[]): ChangeCause {
  const why = repaired.length > 0 ? 'repair' : 'retry';
  return { why, wrong: describeDrift(repaired.slice(0, MAX_LISTED)), by };
}

const listOps = (ops: readonly Op[]) => ops.slice(0, MAX_LISTED).flatMap(renderOp);

export function logFullPass(log: Log, revision: number, ops: readonly Op[]): void {
  if (ops.length === 0) return;
  const steps = listOps(ops);
  log.info({ revision, count: ops.length, steps }, `applying revision ${revision}: ${ops.length} kernel operations`);
}

export function logRepairs(log: Log, ops: readonly Op[], { wrong, by }: ChangeCause): void {
  if (ops.length === 0) return;
  const more = wrong.length > 1 ? ` (and ${wrong.length - 1} more)` : '';
  const author = by.length > 0 ? by.join(', ') : 'another process';
  log.warn(
    { count: ops.length, wrong, by, steps: listOps(ops) },
    `repairing drift caused by ${author}: ${wrong[0]}${more}`,
  );
}

/** The entry of the history for operations that began at `startedAt` (monotonic ms) and are done. */
export function changeRecord(
  clock: Clock,
  startedAt: number,
  revision: number,
  cause: ChangeCause,
  ops: readonly Op[],
  failed: ApplyReport['failed'],
): Omit<ChangeRecord, 'services'> {
  const took = Math.round((clock.monotonic() - startedAt) * 10) / 10;
  const failures = failed.slice(0, MAX_LISTED).map(({ error }) => error.message);
  const at = Math.round(clock.now() - took);
  return { at, took, revision, ...cause, steps: listOps(ops), count: ops.length, failures };
}

import type { Phase } from './phase.ts';

/** What waits to be done at the kernel; one piece is done at a time. */
export interface PendingWork {
  phase: Phase;
  /** The whole kernel state has to be observed and compared. */
  fullPass: boolean;
  /** Objects whose desired state changed, or a revision that has to be acknowledged. */
  changes: boolean;
  /** Parts of the kernel that may have been changed by others. */
  scopes: number;
  /** Observations that other parts of the agent wait for. */
  reads: number;
}

/** `full`: observe and repair everything; `changes`: apply new desired objects; `scope`: observe and repair a part. */
export type Work = 'full' | 'changes' | 'scope' | 'read';

/** Reads that may wait while there are repairs. */
const MAX_WAITING_READS = 8;

/** Desired changes first, then repairs, then reads; but reads do not starve. Undefined when nothing can be done now. */
export function nextWork({ phase, fullPass, changes, scopes, reads }: PendingWork): Work | undefined {
  switch (phase) {
    case 'stopped':
      return undefined;
    case 'paused':
      return reads > 0 ? 'read' : undefined;
    case 'unknown':
      return fullPass ? 'full' : reads > 0 ? 'read' : undefined;
    case 'active':
      if (fullPass) return 'full';
      if (changes) return 'changes';
      if (reads > MAX_WAITING_READS || (reads > 0 && scopes === 0)) return 'read';
      return scopes > 0 ? 'scope' : undefined;
  }
}

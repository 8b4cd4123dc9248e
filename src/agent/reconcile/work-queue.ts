import { MeshError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Scope } from '../../kernel/kernel.ts';
import { nextWork } from './next-work.ts';
import { nextPhase, type Phase, type PhaseEvent } from './phase.ts';
import { addScope, coversAll } from './scopes.ts';

type QueuedWork =
  | { kind: 'full' }
  | { kind: 'changes' }
  | { kind: 'scope'; scope: Scope }
  | { kind: 'read'; run(): Promise<void> };

/** The work that waits for its turn, and the phase, which decides what of it may be done. */
export interface WorkQueue {
  phase(): Phase;
  advance(event: PhaseEvent): void;
  requestFullPass(): void;
  isFullPassRequested(): boolean;
  /** A full pass begins, which also observes every queued scope. */
  beginFullPass(): void;
  addScope(scope: Scope): void;
  /** Runs a read when it is its turn. Rejects with MeshError `unavailable` once the agent stops. */
  addRead<T>(work: () => Promise<T>): Promise<T>;
  /** Removes and returns what to do next; undefined when nothing can be done now. */
  take(hasChanges: boolean): QueuedWork | undefined;
}

interface QueuedRead {
  run(): Promise<void>;
  cancel(): void;
}

/** `onWork` is called whenever there may be work to take. */
export function createWorkQueue(log: Log, onWork: () => void): WorkQueue {
  let phase: Phase = 'paused';
  let fullPass = false;
  const scopes: Scope[] = [];
  const reads: QueuedRead[] = [];

  return {
    phase: () => phase,
    advance(event) {
      const next = nextPhase(phase, event);
      if (next === phase) return;
      log.debug({ from: phase, to: next }, 'the phase of the reconciler changed');
      phase = next;
      if (phase === 'stopped') for (const { cancel } of reads.splice(0)) cancel();
    },
    requestFullPass() {
      fullPass = true;
      onWork();
    },
    isFullPassRequested: () => fullPass,
    beginFullPass() {
      fullPass = false;
      scopes.length = 0;
    },
    addScope(scope) {
      if (coversAll(scope)) scopes.length = 0;
      addScope(scopes, scope);
      onWork();
    },
    addRead(work) {
      if (phase === 'stopped') return Promise.reject(stoppingError());
      return new Promise((resolve, reject) => {
        reads.push({
          async run() {
            try {
              resolve(await work());
            } catch (thrown) {
              reject(thrown);
            }
          },
          cancel: () => reject(stoppingError()),
        });
        onWork();
      });
    },
    take(hasChanges) {
      const kind = nextWork({ phase, fullPass, changes: hasChanges, scopes: scopes.length, reads: reads.length });
      switch (kind) {
        case 'full':
        case 'changes':
          return { kind };
        case 'scope':
          return { kind, scope: scopes.shift()! };
        case 'read':
          return { kind, run: reads.shift()!.run };
        case undefined:
          return undefined;
      }
    },
  };
}

const stoppingError = () => new MeshError('unavailable', 'the agent is stopping');

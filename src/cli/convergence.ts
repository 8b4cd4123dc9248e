import { MeshError } from '../base/errors.ts';
import { formatDuration } from '../manifest/duration.ts';
import type { Context } from './context.ts';
import type { Io } from './io.ts';
import {
  applyWatchEvent,
  emptyWatchedState,
  progressLines,
  type ServiceProgress,
  serviceProgress,
  type WatchedState,
} from './progress.ts';

/** How long all has to be well before it is believed, milliseconds: a task that dies at once is not well. */
const STABLE_PERIOD = 1000;
/** Events of one moment are looked at together. */
const DEBOUNCE = 50;
const MAX_LINES = 20;
/** A manager that restarts is waited for this often, a second apart. */
const MAX_RECONNECTS = 30;

/**
 * Shows services on their way until all their tasks run and stay so. The exit status is 1 when the time limit
 * (milliseconds) passed or a task can never run; Ctrl-C leaves the work to the manager, with 0. `converged` tells of
 * each service, in the same order, whether it was there at the end.
 */
export async function waitForConvergence(
  context: Context,
  services: readonly { id: string; name: string }[],
  timeout: number | undefined,
): Promise<{ status: number; converged: boolean[] }> {
  const { io } = context;
  const view = context.format === 'json' ? undefined : io.terminal ? terminalView(io) : logView(io);
  const watched = { seen: emptyWatchedState() };
  const currentProgress = () => services.map(({ id, name }) => ({ ...serviceProgress(watched.seen, id), name }));
  const endController = new AbortController();
  let stableController = new AbortController();
  let lastProgress = '';

  const outcome = new Promise<{ status: number; say: string }>((resolve) => {
    const evaluate = (): void => {
      const allProgress = currentProgress();
      view?.show(allProgress);
      const fatalReason = allProgress.find((progress) => progress.failure !== undefined)?.failure;
      if (fatalReason !== undefined) resolve({ status: 1, say: fatalReason });
      const now = JSON.stringify(allProgress);
      if (now === lastProgress) return;
      lastProgress = now;
      stableController.abort();
      if (!allProgress.every(({ done }) => done)) return;
      stableController = new AbortController();
      const { signal } = stableController;
      void io.sleep(STABLE_PERIOD, signal).then(() => signal.aborted || resolve({ status: 0, say: '' }));
    };
    let evaluationPending = false;
    const changed = (): void => {
      if (evaluationPending) return;
      evaluationPending = true;
      void io.sleep(DEBOUNCE, endController.signal).then(() => {
        evaluationPending = false;
        if (!endController.signal.aborted) evaluate();
      });
    };
    void watchServices(context, watched, changed, endController.signal).catch((error: Error) =>
      resolve({ status: 1, say: error.message }),
    );
    if (timeout !== undefined) {
      void io.sleep(timeout, endController.signal).then(() => {
        if (!endController.signal.aborted) resolve({ status: 1, say: timeoutMessage(currentProgress(), timeout) });
      });
    }
    const stopListening = io.onInterrupt(() => {
      const names = services.map(({ name }) => name);
      resolve({
        status: 0,
        say: `the operation continues in background; see \`meshctl service ps ${names.join(' ')}\``,
      });
    });
    endController.signal.addEventListener('abort', stopListening);
  });

  const { status, say } = await outcome;
  endController.abort();
  stableController.abort();
  if (say !== '') io.err(`meshctl: ${say}\n`);
  else if (view !== undefined) io.out(services.map(({ name }) => `service ${name} converged\n`).join(''));
  return { status, converged: currentProgress().map(({ done }) => done) };
}

/** Feeds events into what is seen; begins anew when the manager went away for a while. */
async function watchServices(
  context: Context,
  watched: { seen: WatchedState },
  changed: () => void,
  signal: AbortSignal,
): Promise<void> {
  for (let failures = 0; !signal.aborted; ) {
    try {
      const { control } = await context.api();
      const newState = emptyWatchedState();
      for await (const event of control.watch({ services: true, tasks: true, nodes: true }, { signal })) {
        applyWatchEvent(newState, event);
        // After a reconnect the old picture stands until all of it has been told again.
        if (!newState.isSynced) continue;
        watched.seen = newState;
        failures = 0;
        changed();
      }
      if (signal.aborted) return;
      throw new MeshError('unavailable', 'meshd ended the watch; see `journalctl -u meshd`');
    } catch (error) {
      if (signal.aborted) return;
      const retry = error instanceof MeshError && error.code === 'unavailable' && ++failures <= MAX_RECONNECTS;
      if (!retry) throw error;
      await context.io.sleep(1000, signal);
    }
  }
}

function timeoutMessage(all: readonly ServiceProgress[], timeout: number): string {
  const parts = all
    .filter(({ done }) => !done)
    .map(({ name, running, desired, stopping, lines }) => {
      const reasons = [...lines.map((line) => line.trouble), ...lines.map((line) => line.reason)];
      const trouble = reasons.find((reason) => reason !== '');
      const stoppingText = stopping === 0 ? '' : `, ${stopping} still stopping`;
      return `${name}: ${running} of ${desired} tasks run${stoppingText}${trouble === undefined ? '' : ` (${trouble})`}`;
    });
  const summary = parts.length === 0 ? 'all tasks run, but not yet for long enough' : parts.join('; ');
  return `not finished after ${formatDuration(timeout)}: ${summary}; the manager keeps on trying`;
}

interface ProgressView {
  show(all: readonly ServiceProgress[]): void;
}

/** On a terminal: the same lines over and over. */
function terminalView(io: Io): ProgressView {
  let height = 0;
  return {
    show(all) {
      const lines = progressLines(all, io.columns, Math.min(MAX_LINES, io.rows - 3));
      const cursorUp = height === 0 ? '' : `\x1b[${height}A`;
      // Erase from the cursor down once, for the new picture may be shorter.
      io.out(`${cursorUp}\r\x1b[J${lines.join('\n')}\n`);
      height = lines.length;
    },
  };
}

/** In a log: a line when the number of running tasks changes, and one for each new reason why a task does not run. */
function logView(io: Io): ProgressView {
  const reportedReasons = new Set<string>();
  let lastSummary = '';
  return {
    show(all) {
      const [line] = progressLines(all, 200, 0);
      if (line !== lastSummary) io.out(`${line}\n`);
      lastSummary = line!;
      for (const { name, lines } of all) {
        for (const { trouble } of lines) {
          const reason = `${name}: ${trouble}`;
          if (trouble === '' || reportedReasons.has(reason) || reportedReasons.size >= MAX_LINES) continue;
          reportedReasons.add(reason);
          io.out(`${reason}\n`);
        }
      }
    },
  };
}

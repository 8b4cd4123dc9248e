import { MeshError } from '../base/errors.ts';
import { formatDuration } from '../manifest/duration.ts';
import type { Context } from './context.ts';
import type { Io } from './io.ts';
import {
  applyWatchEvent,
  emptyWatchedState,
  progressLines,
  publishingText,
  type ServiceProgress,
  serviceProgress,
  type WatchedState,
} from './progress.ts';
import { lines } from './text/lines.ts';

/** How long every task has to run before a service counts as converged, milliseconds: a task may fail immediately. */
const STABLE_PERIOD = 1000;
/** Delay before events are evaluated together, milliseconds. */
const DEBOUNCE = 50;
const MAX_LINES = 20;
/** Reconnect attempts, one second apart, while a manager restarts. */
const MAX_RECONNECTS = 30;

/**
 * Shows the progress of services until all tasks run and are stable, and every ready node has published their ports. The exit status is 1 after `timeout` (milliseconds)
 * or when a task can never run, and 0 after Ctrl-C, because the manager continues. `converged` is in the order of
 * `services`.
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

  const outcome = new Promise<{ status: number; message: string }>((resolve) => {
    const evaluate = (): void => {
      const allProgress = currentProgress();
      view?.show(allProgress);
      const fatalReason = allProgress.find((progress) => progress.failure !== undefined)?.failure;
      if (fatalReason !== undefined) resolve({ status: 1, message: fatalReason });
      const now = JSON.stringify(allProgress);
      if (now === lastProgress) return;
      lastProgress = now;
      stableController.abort();
      if (!allProgress.every(({ done }) => done)) return;
      stableController = new AbortController();
      const { signal } = stableController;
      void io.sleep(STABLE_PERIOD, signal).then(() => signal.aborted || resolve({ status: 0, message: '' }));
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
      resolve({ status: 1, message: error.message }),
    );
    if (timeout !== undefined) {
      void io.sleep(timeout, endController.signal).then(() => {
        if (!endController.signal.aborted) resolve({ status: 1, message: timeoutMessage(currentProgress(), timeout) });
      });
    }
    const stopListening = io.onInterrupt(() => {
      const names = services.map(({ name }) => name);
      resolve({
        status: 0,
        message: `the operation continues in the background; see \`meshctl service ps ${names.join(' ')}\``,
      });
    });
    endController.signal.addEventListener('abort', stopListening);
  });

  const { status, message } = await outcome;
  endController.abort();
  stableController.abort();
  if (message !== '') io.err(lines([`meshctl: ${message}`]));
  else if (view !== undefined) io.out(lines(services.map(({ name }) => `service ${name} converged`)));
  return { status, converged: currentProgress().map(({ done }) => done) };
}

/** Applies watch events to the observed state; reconnects when the manager restarts. */
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
        // After a reconnect the previous state stays until the new one is complete.
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
    .map(({ name, running, desired, stopping, publishing, lines: taskLines }) => {
      const reasons = [...taskLines.map((line) => line.trouble), ...taskLines.map((line) => line.reason)];
      const trouble = reasons.find((reason) => reason !== '');
      const stoppingText = stopping === 0 ? '' : `, ${stopping} still stopping`;
      const publishingNote =
        publishing.count === 0
          ? ''
          : `, ports not yet published on ${publishingText(publishing)} (see \`meshctl node ls\`)`;
      return `${name}: ${running} of ${desired} tasks running${stoppingText}${publishingNote}${trouble === undefined ? '' : ` (${trouble})`}`;
    });
  const summary = parts.length === 0 ? 'all tasks are running, but not yet stable' : parts.join('; ');
  return `timeout after ${formatDuration(timeout)}: ${summary}; the manager continues`;
}

interface ProgressView {
  show(all: readonly ServiceProgress[]): void;
}

/** On a terminal: redraws the same lines. */
function terminalView(io: Io): ProgressView {
  let height = 0;
  return {
    show(all) {
      const shown = progressLines(all, io.columns, Math.min(MAX_LINES, io.rows - 3));
      const cursorUp = height === 0 ? '' : `\x1b[${height}A`;
      // Erases below the cursor once, because the new lines may be fewer.
      io.raw(`${cursorUp}\r\x1b[J${shown.join('\n')}\n`);
      height = shown.length;
    },
  };
}

/** Without a terminal: one line when the number of running tasks changes, one for each new reason why a task does not run. */
function logView(io: Io): ProgressView {
  const reportedReasons = new Set<string>();
  let lastSummary = '';
  return {
    show(all) {
      const [line] = progressLines(all, 200, 0);
      if (line !== lastSummary) io.out(lines([line!]));
      lastSummary = line!;
      for (const { name, lines: taskLines } of all) {
        for (const { trouble } of taskLines) {
          const reason = `${name}: ${trouble}`;
          if (trouble === '' || reportedReasons.has(reason) || reportedReasons.size >= MAX_LINES) continue;
          reportedReasons.add(reason);
          io.out(lines([reason]));
        }
      }
    },
  };
}

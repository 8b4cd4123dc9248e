import { MeshError } from '../base/errors.ts';
import { formatDuration } from '../manifest/duration.ts';
import type { Context } from './context.ts';
import type { Io } from './io.ts';
import { nothingSeen, progressLines, progressOf, type Seen, type ServiceProgress, see } from './progress.ts';

/** How long all has to be well before it is believed, milliseconds: a task that dies at once is not well. */
const SETTLE = 1000;
/** Events of one moment are looked at together. */
const MOMENT = 50;
const MOST_LINES = 20;
/** A manager that restarts is waited for this often, a second apart. */
const RECONNECTS = 30;

/**
 * Shows services on their way until all their tasks run and stay so. The exit status is 1 when the time limit
 * (milliseconds) passed or a task can never run; Ctrl-C leaves the work to the manager, with 0. `converged` tells of
 * each service, in the same order, whether it was there at the end.
 */
export async function follow(
  context: Context,
  services: readonly { id: string; name: string }[],
  limit: number | undefined,
): Promise<{ status: number; converged: boolean[] }> {
  const { io } = context;
  const view = context.format === 'json' ? undefined : io.terminal ? drawn(io) : told(io);
  const watched = { seen: nothingSeen() };
  const look = () => services.map(({ id, name }) => ({ ...progressOf(watched.seen, id), name }));
  const over = new AbortController();
  let settle = new AbortController();
  let last = '';

  const outcome = new Promise<{ status: number; say: string }>((resolve) => {
    const examine = (): void => {
      const all = look();
      view?.show(all);
      const hopeless = all.find((progress) => progress.hopeless !== undefined)?.hopeless;
      if (hopeless !== undefined) resolve({ status: 1, say: hopeless });
      const now = JSON.stringify(all);
      if (now === last) return;
      last = now;
      settle.abort();
      if (!all.every(({ done }) => done)) return;
      settle = new AbortController();
      const { signal } = settle;
      void io.sleep(SETTLE, signal).then(() => signal.aborted || resolve({ status: 0, say: '' }));
    };
    let looking = false;
    const changed = (): void => {
      if (looking) return;
      looking = true;
      void io.sleep(MOMENT, over.signal).then(() => {
        looking = false;
        if (!over.signal.aborted) examine();
      });
    };
    void watching(context, watched, changed, over.signal).catch((error: Error) =>
      resolve({ status: 1, say: error.message }),
    );
    if (limit !== undefined) {
      void io.sleep(limit, over.signal).then(() => {
        if (!over.signal.aborted) resolve({ status: 1, say: late(look(), limit) });
      });
    }
    const stopListening = io.onInterrupt(() => {
      const names = services.map(({ name }) => name);
      resolve({
        status: 0,
        say: `the operation continues in background; see \`meshctl service ps ${names.join(' ')}\``,
      });
    });
    over.signal.addEventListener('abort', stopListening);
  });

  const { status, say } = await outcome;
  over.abort();
  settle.abort();
  if (say !== '') io.err(`meshctl: ${say}\n`);
  else if (view !== undefined) io.out(services.map(({ name }) => `service ${name} converged\n`).join(''));
  return { status, converged: look().map(({ done }) => done) };
}

/** Feeds events into what is seen; begins anew when the manager went away for a while. */
async function watching(
  context: Context,
  watched: { seen: Seen },
  changed: () => void,
  signal: AbortSignal,
): Promise<void> {
  for (let failures = 0; !signal.aborted; ) {
    try {
      const { control } = await context.api();
      const fresh = nothingSeen();
      for await (const event of control.watch({ services: true, tasks: true, nodes: true }, { signal })) {
        see(fresh, event);
        // After a reconnect the old picture stands until all of it has been told again.
        if (!fresh.ready) continue;
        watched.seen = fresh;
        failures = 0;
        changed();
      }
      if (signal.aborted) return;
      throw new MeshError('unavailable', 'meshd ended the watch; see `journalctl -u meshd`');
    } catch (error) {
      if (signal.aborted) return;
      const again = error instanceof MeshError && error.code === 'unavailable' && ++failures <= RECONNECTS;
      if (!again) throw error;
      await context.io.sleep(1000, signal);
    }
  }
}

function late(all: readonly ServiceProgress[], limit: number): string {
  const parts = all
    .filter(({ done }) => !done)
    .map(({ name, running, wanted, leaving, lines }) => {
      const reasons = [...lines.map((line) => line.trouble), ...lines.map((line) => line.reason)];
      const trouble = reasons.find((reason) => reason !== '');
      const rest = leaving === 0 ? '' : `, ${leaving} still leaving`;
      return `${name}: ${running} of ${wanted} tasks run${rest}${trouble === undefined ? '' : ` (${trouble})`}`;
    });
  const what = parts.length === 0 ? 'all tasks run, but not yet for long enough' : parts.join('; ');
  return `not finished after ${formatDuration(limit)}: ${what}; the manager keeps on trying`;
}

interface View {
  show(all: readonly ServiceProgress[]): void;
}

/** On a terminal: the same lines over and over. */
function drawn(io: Io): View {
  let height = 0;
  return {
    show(all) {
      const lines = progressLines(all, io.columns, Math.min(MOST_LINES, io.rows - 3));
      const up = height === 0 ? '' : `\x1b[${height}A`;
      // Erase from the cursor down once, for the new picture may be shorter.
      io.out(`${up}\r\x1b[J${lines.join('\n')}\n`);
      height = lines.length;
    },
  };
}

/** In a log: a line when the number of running tasks changes, and one for each new reason why a task does not run. */
function told(io: Io): View {
  const said = new Set<string>();
  let overall = '';
  return {
    show(all) {
      const [line] = progressLines(all, 200, 0);
      if (line !== overall) io.out(`${line}\n`);
      overall = line!;
      for (const { name, lines } of all) {
        for (const { trouble } of lines) {
          const reason = `${name}: ${trouble}`;
          if (trouble === '' || said.has(reason) || said.size >= MOST_LINES) continue;
          said.add(reason);
          io.out(`${reason}\n`);
        }
      }
    },
  };
}

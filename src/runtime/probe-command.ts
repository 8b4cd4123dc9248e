import { constants } from 'node:os';
import { messageOf } from '../base/errors.ts';
import type { AssignedTask } from '../model/assignment.ts';
import type { ProbeResult } from './runtime.ts';
import type { ProcessId } from './task-dir.ts';

/** What is needed of a process that was started; src/kernel/process.ts has it. */
interface Spawned {
  watch: { readonly pid: number; signal(signal: number): void; unref(): unknown };
  stdout?: NodeJS.ReadableStream;
}

export interface CommandPlace {
  /** Throws when it cannot be started; `onExit` comes once. */
  spawnProcess(
    path: string,
    args: readonly string[],
    options: { env: Readonly<Record<string, string>>; session: boolean; pipes?: readonly 'stdout'[] },
    onExit: () => void,
  ): Spawned;
  shimPath: string;
  /** The shim of the task. */
  shim: ProcessId;
  /** The task's own. */
  environment: Record<string, string>;
}

/** What the shim tells at most: its first line, and what it keeps of the output (native/task/probe.c). */
const TOLD_LIMIT = 8_192;
/** From the end of its time until the prober itself is taken for stuck, ms; its leftovers may sleep on a dead disk. */
const PROBER_GRACE = 15_000;

/** Runs a command with the task's user, environment and directory; 0 is healthy, as for Docker. */
export function probeByCommand(
  { spawnProcess, shimPath, shim, environment }: CommandPlace,
  { user, workingDir }: AssignedTask['process'],
  command: readonly string[],
  timeout: number,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const flags = ['--probe', '--like', `${shim.pid}:${shim.startTime}`, '--agent', String(process.pid)];
  flags.push('--timeout', String(timeout), '--cwd', workingDir);
  if (user !== undefined) flags.push('--user', user);
  return new Promise((resolve) => {
    let told = '';
    let running = true;
    let open = true;
    const send = (number: number) => {
      if (running) child.watch.signal(number);
    };
    const giveUp = () => send(constants.signals.SIGTERM);
    const finish = () => {
      // Its output may come after its end.
      if (running || open) return;
      clearTimeout(stuck);
      signal.removeEventListener('abort', giveUp);
      resolve(resultOf(told, timeout));
    };
    let child: Spawned;
    try {
      const options = { env: environment, session: true, pipes: ['stdout'] as const };
      child = spawnProcess(shimPath, [...flags, '--', ...command], options, () => {
        running = false;
        finish();
      });
    } catch (thrown) {
      resolve({ ok: false, output: `cannot run the probe: ${messageOf(thrown)}` });
      return;
    }
    const stuck = setTimeout(() => send(constants.signals.SIGKILL), timeout + PROBER_GRACE);
    signal.addEventListener('abort', giveUp);
    child.stdout?.setEncoding('utf8');
    child.stdout?.on('data', (text: string) => {
      if (told.length < TOLD_LIMIT) told += text;
    });
    child.stdout?.on('close', () => {
      open = false;
      finish();
    });
    if (signal.aborted) giveUp();
  });
}

/** Reads what the prober tells: a line about the end, and the output. */
function resultOf(told: string, timeout: number): ProbeResult {
  const end = told.indexOf('\n');
  const [verdict = '', ...rest] = (end < 0 ? '' : told.slice(0, end)).split(' ');
  const detail = rest.join(' ');
  const output = told.slice(end + 1).trim();
  if (verdict === 'exit' && detail === '0') return { ok: true, output };
  const what =
    verdict === 'exit'
      ? `exit code ${detail}`
      : verdict === 'signal'
        ? `killed by ${detail}`
        : verdict === 'timeout'
          ? `no answer within ${timeout / 1000} s`
          : verdict === 'error'
            ? detail
            : 'the probe was killed';
  return { ok: false, output: output === '' ? what : `${what}: ${output}` };
}

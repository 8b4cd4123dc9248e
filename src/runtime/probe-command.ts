import { spawn } from 'node:child_process';
import { messageOf } from '../base/errors.ts';
import type { AssignedTask } from '../model/assignment.ts';
import type { ProbeResult } from './runtime.ts';
import type { ProcessId } from './task-dir.ts';

export interface CommandPlace {
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
  { shimPath, shim, environment }: CommandPlace,
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
    const failed = (thrown: unknown) => resolve({ ok: false, output: `cannot run the probe: ${messageOf(thrown)}` });
    try {
      const child = spawn(shimPath, [...flags, '--', ...command], {
        detached: true,
        stdio: ['ignore', 'pipe', 'ignore'],
        cwd: '/',
        env: environment,
      });
      const stuck = setTimeout(() => child.kill('SIGKILL'), timeout + PROBER_GRACE);
      const giveUp = () => child.kill('SIGTERM');
      signal.addEventListener('abort', giveUp);
      const end = () => {
        clearTimeout(stuck);
        signal.removeEventListener('abort', giveUp);
      };
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        if (told.length < TOLD_LIMIT) told += text;
      });
      child.once('error', (thrown) => {
        end();
        failed(thrown);
      });
      child.once('close', () => {
        end();
        resolve(resultOf(told, timeout));
      });
      if (signal.aborted) giveUp();
    } catch (thrown) {
      failed(thrown);
    }
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

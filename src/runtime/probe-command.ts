import { constants } from 'node:os';
import { pid as ownPid } from 'node:process';
import { messageOf } from '../base/errors.ts';
import type { AssignedProcess } from '../model/assignment.ts';
import { commandFlags, environmentInput } from './command-flags.ts';
import type { ProbeResult } from './runtime.ts';
import type { ProcessId } from './task-dir.ts';

/** Operations on a started process; implemented by src/kernel/host/process.ts. */
interface SpawnedProcess {
  watch: { readonly pid: number; signal(signal: number): void; unref(): unknown };
  stdout?: NodeJS.ReadableStream;
}

export interface CommandProbeContext {
  /** Throws if the process cannot be started; `onExit` is called once. */
  spawnProcess(
    path: string,
    args: readonly string[],
    options: {
      env: Readonly<Record<string, string>>;
      session: boolean;
      pipes?: readonly 'stdout'[];
      input: Uint8Array;
    },
    onExit: () => void,
  ): SpawnedProcess;
  shimPath: string;
  /** Shim of the task. */
  shim: ProcessId;
  /** Environment of the task. */
  environment: Record<string, string>;
}

/** Maximum output of the prober: its first line, and the captured output (native/task/probe.c). */
const REPORT_LIMIT = 8_192;
/** Time after the probe's timeout until the prober itself is considered stuck, ms; its children may be in uninterruptible sleep. */
const PROBER_EXIT_TIMEOUT = 15_000;

/** Runs a command with the task's user, environment and directory; exit status 0 is healthy, as for Docker. */
export function probeByCommand(
  { spawnProcess, shimPath, shim, environment }: CommandProbeContext,
  process: AssignedProcess,
  command: readonly string[],
  timeout: number,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const flags = ['--probe', '--like', `${shim.pid}:${shim.startTime}`, '--agent', String(ownPid)];
  flags.push('--timeout', String(timeout), ...commandFlags(process));
  return new Promise((resolve) => {
    let report = '';
    let running = true;
    let stdoutOpen = true;
    const sendSignal = (number: number) => {
      if (running) child.watch.signal(number);
    };
    const cancel = () => sendSignal(constants.signals.SIGTERM);
    const finish = () => {
      // Output may arrive after the exit.
      if (running || stdoutOpen) return;
      clearTimeout(killTimer);
      signal.removeEventListener('abort', cancel);
      resolve(parseReport(report, timeout));
    };
    let child: SpawnedProcess;
    try {
      const input = environmentInput(environment);
      const options = { env: {}, session: true, pipes: ['stdout'] as const, input };
      child = spawnProcess(shimPath, [...flags, '--', ...command], options, () => {
        running = false;
        finish();
      });
    } catch (thrown) {
      resolve({ ok: false, output: `cannot run the probe: ${messageOf(thrown)}` });
      return;
    }
    const killTimer = setTimeout(() => sendSignal(constants.signals.SIGKILL), timeout + PROBER_EXIT_TIMEOUT);
    signal.addEventListener('abort', cancel);
    child.stdout?.setEncoding('utf8');
    child.stdout?.on('data', (text: string) => {
      if (report.length < REPORT_LIMIT) report += text;
    });
    child.stdout?.on('close', () => {
      stdoutOpen = false;
      finish();
    });
    if (signal.aborted) cancel();
  });
}

/** Parses the prober's output: a verdict line, then the command's output. */
function parseReport(report: string, timeout: number): ProbeResult {
  const end = report.indexOf('\n');
  const [verdict = '', ...rest] = (end < 0 ? '' : report.slice(0, end)).split(' ');
  const detail = rest.join(' ');
  const output = report.slice(end + 1).trim();
  if (verdict === 'exit' && detail === '0') return { ok: true, output };
  const reason =
    verdict === 'exit'
      ? `exit code ${detail}`
      : verdict === 'signal'
        ? `killed by ${detail}`
        : verdict === 'timeout'
          ? `no answer within ${timeout / 1000} s`
          : verdict === 'error'
            ? detail
            : 'the probe was killed';
  return { ok: false, output: output === '' ? reason : `${reason}: ${output}` };
}

import { join } from 'node:path';
import type { AssignedProcess } from '../model/assignment.ts';
import { CAPABILITIES, type Capability, resolvePrivileges } from '../model/capabilities.ts';
import { DEFAULT_LOG } from '../model/spec.ts';

/** Options of mesh-task that control how a command runs, for tasks and probes alike (native/task/common.h, COMMAND_OPTIONS). */
export function commandFlags(process: AssignedProcess): string[] {
  const { capabilities, ambient, newPrivileges } = resolvePrivileges(process);
  const flags = ['--cwd', process.workingDir, '--capabilities', hex(capabilities), '--ambient', hex(ambient)];
  if (newPrivileges) flags.push('--new-privileges');
  if (process.user !== undefined) flags.push('--user', process.user);
  return flags;
}

/** Options of mesh-task for the log of a task in `dir`, which only the shim writes. */
export function logFlags(dir: string, { log = DEFAULT_LOG }: AssignedProcess): string[] {
  return ['--log', join(dir, 'log'), '--log-size', `${log.maxSize}`, '--log-files', `${log.maxFiles}`];
}

/** Bit N is capability N. */
function hex(capabilities: readonly Capability[]): string {
  return capabilities.reduce((set, name) => set | (1n << BigInt(CAPABILITIES.indexOf(name))), 0n).toString(16);
}

/** An environment in the format that mesh-task reads from standard input: each variable terminated by a NUL byte. */
export function environmentInput(environment: Readonly<Record<string, string>>): Uint8Array {
  return Buffer.from(
    Object.entries(environment)
      .map(([name, value]) => `${name}=${value}\0`)
      .join(''),
  );
}

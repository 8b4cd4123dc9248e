import type { PortCondition } from '../../model/cluster.ts';
import { type Condition, isConditionCode } from '../../model/condition.ts';
import { type Finding, finding } from '../../model/doctor.ts';
import { portKey } from '../../model/spec.ts';

/** What the node needs beside its kernel, and what it reports itself. */
export interface NodeStateFacts {
  stateDir: string;
  /** Bytes free for us and in all on its file system; undefined when it cannot be read. */
  disk: { free: number; size: number } | undefined;
  /** Operations, rendered, that would make the kernel what it should be. */
  steps: readonly string[];
  /** Why they are unknown; empty when they are known. */
  stepsError: string;
  conditions: readonly Condition[];
  portConditions: readonly PortCondition[];
}

const MEBIBYTE = 1024 * 1024;
/** Free bytes, or a share of the whole. */
const DISK_LIMITS = { error: 64 * MEBIBYTE, warning: 512 * MEBIBYTE, share: 0.05 };

export function checkNodeState(facts: NodeStateFacts): Finding[] {
  return [...checkDisk(facts), checkKernel(facts), ...checkConditions(facts), ...checkPorts(facts)];
}

/** Without conditions that repeat what another check found itself. */
export function withoutRepeatedConditions(findings: readonly Finding[]): Finding[] {
  const isRepeated = ({ code }: Finding, place: number) =>
    isConditionCode(code) && findings.findIndex((other) => other.code === code) < place;
  return findings.filter((found, place) => !isRepeated(found, place));
}

function checkConditions({ conditions }: NodeStateFacts): Finding[] {
  if (conditions.length === 0) return [finding('ok', 'NoConditions', {})];
  return conditions.map((raised) => ({ level: 'error', ...raised }));
}

function checkPorts({ portConditions }: NodeStateFacts): Finding[] {
  if (portConditions.length === 0) return [finding('ok', 'PortsFree', {})];
  return portConditions.map((one) => finding('warning', 'PortConflict', { port: portKey(one), problem: one.message }));
}

export function checkDisk({ stateDir, disk }: Pick<NodeStateFacts, 'stateDir' | 'disk'>): Finding[] {
  if (disk === undefined) return [];
  const { free, size } = disk;
  const params = { directory: stateDir, free: Math.round(free / MEBIBYTE), size: Math.round(size / MEBIBYTE) };
  if (free < DISK_LIMITS.error) return [finding('error', 'DiskNearlyFull', params)];
  if (free < DISK_LIMITS.warning && free < size * DISK_LIMITS.share)
    return [finding('warning', 'DiskSpaceLow', params)];
  return [finding('ok', 'DiskSpace', params)];
}

/** meshd repairs drift within seconds: what remains cannot be repaired. */
function checkKernel({ steps, stepsError }: NodeStateFacts): Finding {
  if (stepsError !== '') return finding('error', 'KernelUnreadable', { error: stepsError });
  const [operation] = steps;
  if (operation === undefined) return finding('ok', 'KernelMatches', {});
  return finding('warning', 'KernelDiffers', { operation, count: steps.length });
}

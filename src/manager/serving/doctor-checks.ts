import type { Node } from '../../model/cluster.ts';
import { type DoctorReport, type EchoResult, type Finding, finding, renderFinding } from '../../model/doctor.ts';
import type { NodeCheckup } from '../../rpc/messages.ts';
import { pathFindings } from './path-findings.ts';

/** What one node answered; it was asked at `sent` and answered at `received` (wall clock of the manager, ms). */
export type CheckupReply = { nodeId: string; sent: number; received: number } & (
  | { checkup: DoctorReport }
  | { error: string }
);

/** Milliseconds by which a clock may differ from the manager's. */
const CLOCK_SKEW_LIMITS = { warning: 1_000, error: 5_000 };

/** All findings by node: what the nodes reported of themselves, and what only a comparison of their reports shows. */
export function evaluateCluster(
  selected: readonly Node[],
  allNodes: readonly Node[],
  checkups: readonly CheckupReply[],
  version: string,
): NodeCheckup[] {
  const mtus = checkups.flatMap((one) => ('checkup' in one && one.checkup.overlayMtu ? [one.checkup.overlayMtu] : []));
  const answered = checkups.flatMap((reply) => {
    const node = allNodes.find(({ id }) => id === reply.nodeId);
    return 'checkup' in reply && node !== undefined ? [{ node, report: reply.checkup }] : [];
  });
  const paths = pathFindings(answered, allNodes);
  return selected.map(({ id, name, state, underlay }) => {
    const reply = checkups.find(({ nodeId }) => nodeId === id);
    if (reply === undefined || 'error' in reply) {
      const about = { node: name, address: underlay };
      const problem =
        reply === undefined
          ? finding('error', 'NodeDown', { ...about, state })
          : finding('error', 'NodeAnswerFailed', { ...about, error: reply.error });
      return { nodeId: id, nodeName: name, findings: [renderFinding(problem)], paths: [] };
    }
    const { checkup, sent, received } = reply;
    const echoes = [...checkup.echoes].sort((a, b) => (nameOf(a, allNodes) < nameOf(b, allNodes) ? -1 : 1));
    return {
      nodeId: id,
      nodeName: name,
      findings: [
        ...checkup.findings,
        checkClock(checkup, sent, received),
        checkVersion(checkup, version),
        ...checkMtu(checkup, mtus),
        ...(paths.get(id) ?? []),
      ].map((each) => renderFinding(each)),
      paths: echoes.map((echo) => ({
        node: nameOf(echo, allNodes),
        address: echo.underlay,
        ...(echo.small === undefined ? {} : { small: roundMs(echo.small) }),
        ...(echo.full === undefined ? {} : { full: roundMs(echo.full) }),
      })),
    };
  });
}

/** The node read its clock between the request and its reply; only a difference beyond that interval counts. */
function checkClock({ now, took }: DoctorReport, sent: number, received: number): Finding {
  const latest = Math.max(sent, received - took);
  const difference = now < sent ? now - sent : now > latest ? now - latest : 0;
  const seconds = (Math.abs(difference) / 1_000).toFixed(1);
  const level =
    Math.abs(difference) > CLOCK_SKEW_LIMITS.error
      ? 'error'
      : Math.abs(difference) > CLOCK_SKEW_LIMITS.warning
        ? 'warning'
        : 'ok';
  if (level === 'ok') return finding('ok', 'ClockAgrees', {});
  return finding(level, difference < 0 ? 'ClockBehind' : 'ClockAhead', { seconds });
}

function checkVersion({ version }: DoctorReport, expected: string): Finding {
  if (expected === '' || version === expected) return finding('ok', 'VersionCurrent', { version });
  return finding('warning', 'VersionDiffers', { version, expected });
}

function checkMtu({ overlayMtu }: DoctorReport, mtus: readonly number[]): Finding[] {
  const smallest = Math.min(...mtus);
  if (overlayMtu === undefined || mtus.length < 2) return [];
  if (overlayMtu === smallest) return [finding('ok', 'OverlayMtuSmallest', { mtu: overlayMtu })];
  return [finding('warning', 'OverlayMtuDiffers', { mtu: overlayMtu, smallest })];
}

function nameOf({ nodeId }: EchoResult, all: readonly Node[]): string {
  return all.find(({ id }) => id === nodeId)?.name ?? nodeId;
}

const roundMs = (ms: number): number => Math.round(ms * 100) / 100;

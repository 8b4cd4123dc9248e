import { familyOf } from '../model/address.ts';
import { type DoctorReport, type EchoResult, error, type Finding, ok, warning } from '../model/doctor.ts';
import { VXLAN_OVERHEAD } from '../model/mtu.ts';
import type { Node } from '../rpc/messages.ts';

/** What one node answered, and between which moments (wall clock of the manager, ms). */
export type CheckupReply = { nodeId: string; sent: number; received: number } & (
  | { checkup: DoctorReport }
  | { error: string }
);

export interface DoctorRow {
  id: string;
  name: string;
  findings: Finding[];
  /** Echo to every other node: ms, null when none came back. */
  paths: { node: string; address: string; small: number | null; full: number | null }[];
}

/** Milliseconds by which a clock may differ from the manager's. */
const CLOCK_SKEW_LIMITS = { warning: 1_000, error: 5_000 };

/** All that was found, node by node: what they said of themselves, and what only shows when they are seen together. */
export function evaluateCluster(
  selected: readonly Node[],
  allNodes: readonly Node[],
  checkups: readonly CheckupReply[],
  version: string,
): DoctorRow[] {
  const mtus = checkups.flatMap((one) => ('checkup' in one && one.checkup.overlayMtu ? [one.checkup.overlayMtu] : []));
  return selected.map(({ id, name, state, underlay }) => {
    const reply = checkups.find(({ nodeId }) => nodeId === id);
    if (reply === undefined || 'error' in reply) {
      const why = reply === undefined ? `${name} is ${state}` : `${name} could not be asked: ${reply.error}`;
      const remedy = `systemctl status meshd on ${name} (${underlay})`;
      return { id, name, findings: [error('node', why, remedy)], paths: [] };
    }
    const { checkup, sent, received } = reply;
    const echoes = [...checkup.echoes].sort((a, b) => (nameOf(a, allNodes) < nameOf(b, allNodes) ? -1 : 1));
    return {
      id,
      name,
      findings: [
        ...checkup.findings,
        checkClock(checkup, sent, received),
        checkVersion(checkup, version),
        ...checkMtu(checkup, mtus),
        ...echoes.flatMap((echo) => checkEcho(echo, underlay, checkup, allNodes)),
      ],
      paths: echoes.map((echo) => ({
        node: nameOf(echo, allNodes),
        address: echo.underlay,
        small: roundMs(echo.small),
        full: roundMs(echo.full),
      })),
    };
  });
}

/** The question came to the node at some moment between its sending and the answer; only what is beyond counts. */
function checkClock({ now, took }: DoctorReport, sent: number, received: number): Finding {
  const latest = Math.max(sent, received - took);
  const difference = now < sent ? now - sent : now > latest ? now - latest : 0;
  const seconds = (Math.abs(difference) / 1_000).toFixed(1);
  const what = `the clock is at least ${seconds} s ${difference < 0 ? 'behind' : 'ahead of'} the manager's`;
  const remedy = 'timedatectl set-ntp true';
  if (Math.abs(difference) > CLOCK_SKEW_LIMITS.error) return error('clock', what, remedy);
  if (Math.abs(difference) > CLOCK_SKEW_LIMITS.warning) return warning('clock', what, remedy);
  return ok('clock', "the clock agrees with the manager's");
}

function checkVersion({ version }: DoctorReport, expected: string): Finding {
  if (expected === '' || version === expected) return ok('version', `meshd ${version}`);
  return warning(
    'version',
    `meshd is ${version}, the manager's node has ${expected}`,
    'install the same version and systemctl restart meshd',
  );
}

function checkMtu({ overlayMtu }: DoctorReport, mtus: readonly number[]): Finding[] {
  const smallest = Math.min(...mtus);
  if (overlayMtu === undefined || mtus.length < 2) return [];
  if (overlayMtu === smallest) return [ok('mtu', `no node's overlay takes less than this one's ${overlayMtu} bytes`)];
  return [
    warning(
      'mtu',
      `the overlay takes ${overlayMtu} bytes here and only ${smallest} on another node: long UDP packets to it are lost`,
      'ip link show on both, give their interfaces one MTU, then systemctl restart meshd',
    ),
  ];
}

/** A node that is down is said to be down once, not by everybody who does not reach it. */
function checkEcho(echo: EchoResult, from: string, checkup: DoctorReport, all: readonly Node[]): Finding[] {
  const node = all.find(({ id }) => id === echo.nodeId);
  if (node !== undefined && node.state !== 'ready') return [];
  const to = nameOf(echo, all);
  if (echo.small === undefined && echo.full === undefined) {
    return [
      error(
        'path',
        `no answer from ${to} (${echo.underlay}) through VXLAN: udp/4789 is dropped on the way there or back`,
        `tcpdump -ni any udp port 4789 on both shows how far they come; then open udp/4789 between ${from} and ${echo.underlay}`,
      ),
    ];
  }
  if (echo.full === undefined) {
    const inner = checkup.overlayMtu ?? 0;
    const overhead = VXLAN_OVERHEAD[familyOf(echo.underlay)];
    const [outer, payload] = [inner + overhead, inner + 22];
    return [
      error(
        'path',
        `packets of full size to ${to} are lost or their answers are: ${inner} bytes in VXLAN are ${outer} on the way, small ones arrive`,
        `ping -M do -s ${payload} ${echo.underlay} from ${from}; give every link on the way an MTU of ${outer}, or ip link set dev … mtu … on the nodes and systemctl restart meshd`,
      ),
    ];
  }
  if (echo.small === undefined) {
    return [
      warning(
        'path',
        `${to} answers, but lost packets: three of the small probes had no answer`,
        `ping -f -c 1000 ${echo.underlay}`,
      ),
    ];
  }
  return [ok('path', `${to} answers through VXLAN, small packets and full ones`)];
}

function nameOf({ nodeId }: EchoResult, all: readonly Node[]): string {
  return all.find(({ id }) => id === nodeId)?.name ?? nodeId;
}

const roundMs = (ms: number | undefined): number | null => (ms === undefined ? null : Math.round(ms * 100) / 100);

import { type EchoResult, error, type Finding, type NodeCheckup, ok, warning } from '../model/doctor.ts';
import type { Node } from '../rpc/gen/mesh.ts';

/** What one node answered, and between which moments (wall clock of the manager, ms). */
export type Checkup = { nodeId: string; sent: number; received: number } & (
  | { checkup: NodeCheckup }
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
const CLOCK = { warning: 1_000, error: 5_000 };

/** All that was found, node by node: what they said of themselves, and what only shows when they are seen together. */
export function judgeCluster(
  wanted: readonly Node[],
  all: readonly Node[],
  checkups: readonly Checkup[],
  version: string,
): DoctorRow[] {
  const mtus = checkups.flatMap((one) => ('checkup' in one && one.checkup.overlayMtu ? [one.checkup.overlayMtu] : []));
  return wanted.map(({ id, name, state, underlay }) => {
    const answer = checkups.find(({ nodeId }) => nodeId === id);
    if (answer === undefined || 'error' in answer) {
      const why = answer === undefined ? `${name} is ${state}` : `${name} could not be asked: ${answer.error}`;
      const remedy = `systemctl status meshd on ${name} (${underlay})`;
      return { id, name, findings: [error('node', why, remedy)], paths: [] };
    }
    const { checkup, sent, received } = answer;
    const echoes = [...checkup.echoes].sort((a, b) => (nameOf(a, all) < nameOf(b, all) ? -1 : 1));
    return {
      id,
      name,
      findings: [
        ...checkup.findings,
        judgeClock(checkup, sent, received),
        judgeVersion(checkup, version),
        ...judgeMtu(checkup, mtus),
        ...echoes.flatMap((echo) => judgeEcho(echo, underlay, checkup, all)),
      ],
      paths: echoes.map((echo) => ({
        node: nameOf(echo, all),
        address: echo.underlay,
        small: rounded(echo.small),
        full: rounded(echo.full),
      })),
    };
  });
}

/** The question came to the node at some moment between its sending and the answer; only what is beyond counts. */
function judgeClock({ now, took }: NodeCheckup, sent: number, received: number): Finding {
  const latest = Math.max(sent, received - took);
  const difference = now < sent ? now - sent : now > latest ? now - latest : 0;
  const seconds = (Math.abs(difference) / 1_000).toFixed(1);
  const what = `the clock is at least ${seconds} s ${difference < 0 ? 'behind' : 'ahead of'} the manager's`;
  const remedy = 'timedatectl set-ntp true';
  if (Math.abs(difference) > CLOCK.error) return error('clock', what, remedy);
  if (Math.abs(difference) > CLOCK.warning) return warning('clock', what, remedy);
  return ok('clock', "the clock agrees with the manager's");
}

function judgeVersion({ version }: NodeCheckup, ours: string): Finding {
  if (ours === '' || version === ours) return ok('version', `meshd ${version}`);
  return warning(
    'version',
    `meshd is ${version}, the manager's node has ${ours}`,
    'install the same version and systemctl restart meshd',
  );
}

function judgeMtu({ overlayMtu }: NodeCheckup, mtus: readonly number[]): Finding[] {
  const least = Math.min(...mtus);
  if (overlayMtu === undefined || mtus.length < 2) return [];
  if (overlayMtu === least) return [ok('mtu', `no node's overlay takes less than this one's ${overlayMtu} bytes`)];
  return [
    warning(
      'mtu',
      `the overlay takes ${overlayMtu} bytes here and only ${least} on another node: long UDP packets to it are lost`,
      'ip link show on both, give their interfaces one MTU, then systemctl restart meshd',
    ),
  ];
}

/** A node that is down is said to be down once, not by everybody who does not reach it. */
function judgeEcho(echo: EchoResult, from: string, checkup: NodeCheckup, all: readonly Node[]): Finding[] {
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
    const [wire, payload] = echo.underlay.includes(':') ? [inner + 70, inner + 22] : [inner + 50, inner + 22];
    return [
      error(
        'path',
        `packets of full size to ${to} are lost or their answers are: ${inner} bytes in VXLAN are ${wire} on the way, small ones arrive`,
        `ping -M do -s ${payload} ${echo.underlay} from ${from}; give every link on the way an MTU of ${wire}, or ip link set dev … mtu … on the nodes and systemctl restart meshd`,
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

const rounded = (ms: number | undefined): number | null => (ms === undefined ? null : Math.round(ms * 100) / 100);

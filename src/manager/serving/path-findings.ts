import { familyOf } from '../../model/address.ts';
import type { Node } from '../../model/cluster.ts';
import { type DoctorReport, type EchoResult, type Finding, finding } from '../../model/doctor.ts';
import { VXLAN_OVERHEAD } from '../../model/mtu.ts';

/*
 * What the echoes between nodes mean. One fault of a node shows on every path to and from it, so a path is reported only
 * if nothing else explains it: not beside a cause that a node found in itself, once for a node that reaches no other, and
 * once for a pair.
 */

/** The report of a node that answered. */
interface NodeReport {
  node: Node;
  report: DoctorReport;
}

/** Whether all packets of a path are lost, or only those of full size. */
type Loss = 'broken' | 'losesFullSize';

interface LossyPath {
  from: NodeReport;
  to: Node;
  loss: Loss;
}

/** Errors that a node finds in itself and that explain lost packets on its paths. */
const CAUSES: Readonly<Record<string, Loss>> = {
  UnderlayAddressMissing: 'broken',
  UnderlayDisconnected: 'broken',
  FirewallRuleDropsVxlan: 'broken',
  NftablesDropsVxlan: 'broken',
  MtuTooSmall: 'losesFullSize',
};

/** Bytes of IP and ICMP headers, which ping's -s does not count. */
const PING_HEADERS = { inet: 28, inet6: 48 };

/** Findings about paths by the id of the node that they are shown for. A node that is down is reported as down only. */
export function pathFindings(reports: readonly NodeReport[], allNodes: readonly Node[]): Map<string, Finding[]> {
  const findings = new Map<string, Finding[]>(reports.map(({ node }) => [node.id, []]));
  const add = (nodeId: string, found: Finding) => findings.get(nodeId)?.push(found);
  const unexplained: LossyPath[] = [];
  const working = new Set<string>();
  for (const from of reports) {
    for (const echo of from.report.echoes) {
      const to = allNodes.find(({ id }) => id === echo.nodeId);
      if (to === undefined || to.state !== 'ready') continue;
      const loss = lossOf(echo);
      if (loss === undefined) {
        working.add(from.node.id);
        add(from.node.id, workingFinding(echo, to));
      } else if (!isExplained({ from, to, loss }, reports)) unexplained.push({ from, to, loss });
    }
  }
  const cutOffIds = new Set<string>();
  for (const { node, report } of reports) {
    const own = unexplained.filter(({ from }) => from.node.id === node.id);
    if (own.length < 2 || working.has(node.id)) continue;
    cutOffIds.add(node.id);
    add(node.id, cutOffFinding({ node, report }, own));
  }
  const reportedPairs = new Set<string>();
  for (const path of unexplained) {
    const ids = [path.from.node.id, path.to.id];
    const pair = [...ids.sort(), path.loss].join(' ');
    if (ids.some((id) => cutOffIds.has(id)) || reportedPairs.has(pair)) continue;
    reportedPairs.add(pair);
    add(path.from.node.id, pathFinding(path));
  }
  return findings;
}

function lossOf({ small, full }: EchoResult): Loss | undefined {
  if (full !== undefined) return undefined;
  return small === undefined ? 'broken' : 'losesFullSize';
}

/** Whether one end of the path found the cause in itself. */
function isExplained({ from, to, loss }: LossyPath, reports: readonly NodeReport[]): boolean {
  const far = reports.find(({ node }) => node.id === to.id);
  const smallerMtu = (far?.report.overlayMtu ?? Number.POSITIVE_INFINITY) < (from.report.overlayMtu ?? 0);
  if (loss === 'losesFullSize' && smallerMtu) return true;
  return hasCause(from, to, loss, reports) || (far !== undefined && hasCause(far, from.node, loss, reports));
}

function hasCause({ report }: NodeReport, peer: Node, loss: Loss, reports: readonly NodeReport[]): boolean {
  return report.findings.some(({ level, code, params }) => {
    if (level !== 'error' || CAUSES[code] !== loss) return false;
    // A firewall rule about one node explains no path to another.
    const words = (params['rule'] ?? '').split(/[ /]/);
    const named = reports.map(({ node }) => node.underlay).filter((address) => words.includes(address));
    return named.length === 0 || named.includes(peer.underlay);
  });
}

function workingFinding({ small }: EchoResult, { name, underlay }: Node): Finding {
  if (small === undefined) return finding('warning', 'PathLossy', { node: name, address: underlay });
  return finding('ok', 'PathAnswers', { node: name });
}

/** For a node that loses packets on every path, to at least two others. */
function cutOffFinding({ node, report }: NodeReport, own: readonly LossyPath[]): Finding {
  const nodes = own.map(({ to }) => to.name).join(', ');
  if (own.some(({ loss }) => loss === 'broken'))
    return finding('error', 'AllPathsBroken', { nodes, from: node.underlay });
  return finding('error', 'AllPathsLoseFullSize', { nodes, from: node.underlay, ...sizes(node, report) });
}

function pathFinding({ from: { node, report }, to, loss }: LossyPath): Finding {
  const about = { node: to.name, address: to.underlay, from: node.underlay };
  if (loss === 'broken') return finding('error', 'PathBroken', about);
  return finding('error', 'PathLosesFullSize', { ...about, ...sizes(to, report) });
}

/** Bytes of a packet of full size inside and outside of VXLAN, and as the argument of ping -s. */
function sizes({ underlay }: Node, { overlayMtu: inner = 0 }: DoctorReport) {
  const outer = inner + VXLAN_OVERHEAD[familyOf(underlay)];
  return { inner, outer, payload: outer - PING_HEADERS[familyOf(underlay)] };
}

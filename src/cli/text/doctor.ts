import type { NodeCheckup } from '../../rpc/messages.ts';
import { renderTable, sanitize } from './table.ts';

/** Nodes up to which all pairs are shown beside what is wrong. */
const MAX_MATRIX_NODES = 16;

export interface DoctorRow {
  id: string;
  name: string;
  findings: NodeCheckup['findings'];
  /** Echo to every other node: ms, null when no reply came. */
  paths: { node: string; address: string; small: number | null; full: number | null }[];
}

export function doctorRow({ nodeId, nodeName, findings, paths }: NodeCheckup): DoctorRow {
  return {
    id: nodeId,
    name: nodeName,
    findings,
    paths: paths.map(({ node, address, small = null, full = null }) => ({ node, address, small, full })),
  };
}

/** Trouble by node, or with `verbose` everything; then how the nodes reach each other, then one line that sums up. */
export function renderDoctor(rows: readonly DoctorRow[], verbose: boolean): string {
  let text = '';
  for (const { name, findings } of rows) {
    const shown = findings.filter(({ level }) => verbose || level !== 'ok');
    if (shown.length === 0) continue;
    text += `${sanitize(name)}\n`;
    for (const { level, check, what, remedy } of shown) {
      text += `  ${level.padEnd(7)}  ${sanitize(check).padEnd(9)}  ${sanitize(what)}\n`;
      if (remedy !== '') text += `${' '.repeat(22)}→ ${sanitize(remedy)}\n`;
    }
    text += '\n';
  }
  const lost = rows.some(({ paths }) => paths.some(({ small, full }) => small === null || full === null));
  if (verbose || lost) text += matrix(rows, verbose);
  return text + summary(rows);
}

/** From the node on the left to the one on top: ms of a small packet and of a full one. */
function matrix(rows: readonly DoctorRow[], verbose: boolean): string {
  const from = rows.filter(({ paths }) => paths.length > 0);
  const names = [...new Set(from.flatMap(({ paths }) => paths.map(({ node }) => node)))].sort();
  if (from.length === 0 || (!verbose && names.length > MAX_MATRIX_NODES)) return '';
  const body = from.map(({ name, paths }) => [
    name,
    ...names.map((to) => {
      const path = paths.find(({ node }) => node === to);
      return path === undefined ? '-' : `${formatMs(path.small)}/${formatMs(path.full)}`;
    }),
  ]);
  return `${renderTable(['FROM \\ TO', ...names], body)}(ms of a small packet / of one as long as the overlay takes)\n\n`;
}

const formatMs = (ms: number | null): string => (ms === null ? 'lost' : ms.toFixed(1));

function summary(rows: readonly DoctorRow[]): string {
  const all = rows.flatMap(({ findings }) => findings);
  const of = (level: string) => all.filter((finding) => finding.level === level).length;
  const begin = `${all.length} checks on ${rows.length} ${rows.length === 1 ? 'node' : 'nodes'}:`;
  const [errors, warnings] = [of('error'), of('warning')];
  if (errors + warnings === 0) return `${begin} all well\n`;
  const counted = (count: number, word: string) => `${count} ${word}${count === 1 ? '' : 's'}`;
  return `${begin} ${counted(errors, 'error')}, ${counted(warnings, 'warning')}\n`;
}

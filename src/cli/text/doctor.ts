import type { NodeCheckup } from '../../rpc/messages.ts';
import { lines } from './lines.ts';
import { renderTable } from './table.ts';

/** Largest cluster whose path matrix is shown without --verbose. */
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

/** Warnings and errors by node (`verbose`: every finding), the path matrix, and a summary line. */
export function renderDoctor(rows: readonly DoctorRow[], verbose: boolean): string {
  const findingLines: string[] = [];
  for (const { name, findings } of rows) {
    const shown = findings.filter(({ level }) => verbose || level !== 'ok');
    if (shown.length === 0) continue;
    findingLines.push(name);
    for (const { level, check, what, remedy } of shown) {
      findingLines.push(`  ${level.padEnd(7)}  ${check.padEnd(9)}  ${what}`);
      if (remedy !== '') findingLines.push(`${' '.repeat(22)}→ ${remedy}`);
    }
    findingLines.push('');
  }
  const lost = rows.some(({ paths }) => paths.some(({ small, full }) => small === null || full === null));
  return lines(findingLines) + (verbose || lost ? matrix(rows, verbose) : '') + summary(rows);
}

/** Round-trip times from the node of the row to the node of the column: a small packet / one of the overlay's MTU. */
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
  return `${renderTable(['FROM \\ TO', ...names], body)}(round-trip time in ms: small packet / packet of the overlay's MTU)\n\n`;
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

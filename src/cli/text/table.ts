import { printable } from '../../base/printable.ts';
import { lines } from './lines.ts';

/** A table in Docker's layout: a header in capitals, columns three spaces apart, no trailing spaces. */
export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const printed = [head, ...rows].map((row) => row.map((cell) => printable(cell).trimEnd()));
  const widths = head.map((_, column) =>
    printed.reduce((widest, line) => Math.max(widest, width(line[column] ?? '')), 0),
  );
  return lines(
    printed.map((row) =>
      row
        .map((cell, column) => cell + ' '.repeat(widths[column]! - width(cell)))
        .join('   ')
        .trimEnd(),
    ),
  );
}

export function truncate(text: string, length: number): string {
  const letters = [...text];
  return letters.length <= length ? text : `${letters.slice(0, length - 1).join('')}…`;
}

const width = (text: string): number => [...text].length;

/** Names and values of one object, one per line. Lists and maps are indented below their name. */
export function renderDetails(object: Readonly<Record<string, unknown>>): string {
  return lines(detailLines(object, ''));
}

function detailLines(object: Readonly<Record<string, unknown>>, indent: string): string[] {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined);
  const longest = Math.max(0, ...entries.map(([key]) => key.length));
  return entries.flatMap(([key, value]) => {
    const name = `${indent}${key}:`;
    if (Array.isArray(value) && value.some((item) => typeof item === 'object')) {
      return [name, ...value.map((item) => `${indent}  - ${valueText(item)}`)];
    }
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      const inner = detailLines(value as Record<string, unknown>, `${indent}  `);
      return inner.length === 0 ? [] : [name, ...inner];
    }
    return [`${name.padEnd(indent.length + longest + 1)} ${valueText(value)}`.trimEnd()];
  });
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return value.map(valueText).join(' ');
  if (typeof value !== 'object' || value === null) return String(value);
  return Object.entries(value)
    .filter(([, inner]) => inner !== undefined)
    .map(([key, inner]) => `${key}=${valueText(inner)}`)
    .join(' ');
}

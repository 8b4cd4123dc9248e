/** Markdown tables of RESULTS.md. */

export function formatNumber(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return '–';
  return Math.abs(value) >= 100 ? String(Math.round(value)) : String(+value.toPrecision(3));
}

export function rowOf(...cells: string[]): string {
  return `| ${cells.join(' | ')} |`;
}

export function ruleOf(columns: number): string {
  return `|${' --- |'.repeat(columns)}`;
}

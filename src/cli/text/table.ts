/**
 * A table as Docker prints it: a head in capitals, columns three blanks apart, no blanks at the end of a line.
 * Cells are single lines; control characters in them are replaced, for they come from other people's processes.
 */
export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, ...rows].map((row) => row.map((cell) => sanitize(cell).trimEnd()));
  const widths = head.map((_, column) =>
    lines.reduce((widest, line) => Math.max(widest, width(line[column] ?? '')), 0),
  );
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell + ' '.repeat(widths[column]! - width(cell)))
        .join('   ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

/** Text without anything that could move a cursor. */
export function sanitize(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is taken out
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ');
}

export function truncate(text: string, length: number): string {
  const letters = [...text];
  return letters.length <= length ? text : `${letters.slice(0, length - 1).join('')}…`;
}

const width = (text: string): number => [...text].length;

/** Names and values one below the other, for one object. Lists and maps are indented below their name. */
export function renderDetails(object: Readonly<Record<string, unknown>>, indent = ''): string {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined);
  const longest = Math.max(0, ...entries.map(([key]) => key.length));
  let text = '';
  for (const [key, value] of entries) {
    const name = `${indent}${sanitize(key)}:`;
    if (Array.isArray(value) && value.some((item) => typeof item === 'object')) {
      text += `${name}\n${value.map((item) => `${indent}  - ${line(item)}\n`).join('')}`;
    } else if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      text +=
        Object.keys(value).length === 0
          ? ''
          : `${name}\n${renderDetails(value as Record<string, unknown>, `${indent}  `)}`;
    } else {
      text += `${name.padEnd(indent.length + longest + 1)} ${line(value)}`.trimEnd();
      text += '\n';
    }
  }
  return text;
}

function line(value: unknown): string {
  if (Array.isArray(value)) return value.map(line).join(' ');
  if (typeof value !== 'object' || value === null) return sanitize(String(value));
  return Object.entries(value)
    .filter(([, inner]) => inner !== undefined)
    .map(([key, inner]) => `${key}=${line(inner)}`)
    .join(' ');
}

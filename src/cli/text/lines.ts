import { printable } from '../../base/printable.ts';

/** Each text as one line of output. A text with line breaks in it stays one line. */
export function lines(texts: readonly string[]): string {
  return texts.map((text) => `${printable(text)}\n`).join('');
}

/** Output of several lines without control characters: what every verb prints passes through here (src/cli/io.ts). */
export function printableOutput(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

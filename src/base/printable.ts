/**
 * One line of text without characters that could move a cursor, change colours or start a new line: each run of C0 and
 * C1 control characters, DEL and the Unicode line separators becomes one space. For text of nodes and tasks.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to remove
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ');
}

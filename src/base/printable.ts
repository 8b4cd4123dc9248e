/**
 * Text on one line without control characters: what a task, a process name or another node contains must not move the
 * cursor of a terminal or begin a second line of a log. Runs of C0 and C1 controls and of the Unicode line separators
 * become one blank.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ');
}

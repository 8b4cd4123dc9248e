/** C1 controls, which drive terminals as well; the line and paragraph separators; bidirectional embeddings, overrides and isolates. */
const UNPRINTABLE = '\\u007f-\\u009f\\u2028-\\u202e\\u2066-\\u2069';
const RUN = new RegExp(`[\\u0000-\\u001f${UNPRINTABLE}]+`, 'g');
const BEYOND_C0 = new RegExp(`[${UNPRINTABLE}]`, 'g');

/**
 * Text on one line without control characters: what a task, a process name or another node contains must not move the
 * cursor of a terminal, begin a second line of a log or show its letters in another order. Runs of them become one blank.
 */
export function printable(text: string): string {
  return text.replace(RUN, ' ');
}

/** JSON text in which the same characters are escaped. JSON.stringify has escaped the C0 controls already. */
export function printableJson(json: string): string {
  return json.replace(BEYOND_C0, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

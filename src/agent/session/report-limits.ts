import { printable } from '../../base/printable.ts';
import { LIMIT } from '../../model/limits.ts';

/** Bytes of one text in a report, and texts in a list: a manager that gets more closes the session. */
const TEXT_LIMIT = 4 * LIMIT.value;
const LIST_LIMIT = 100;
/** Bytes of all operations of a plan; a message to the manager is bounded at 4 MiB. */
const STEPS_LIMIT = 3 * 1024 * 1024;

/** A text as a report carries it: bounded, without control characters. */
export function truncateText(text: string): string {
  const clean = printable(text);
  const bytes = Buffer.from(clean, 'utf8');
  return bytes.length <= TEXT_LIMIT
    ? clean
    : `${bytes
        .subarray(0, TEXT_LIMIT - 8)
        .toString('utf8')
        .replace(/\uFFFD$/, '')}…`;
}

export function truncateList(texts: readonly string[]): string[] {
  return texts.slice(0, LIST_LIMIT).map(truncateText);
}

/** As many operations as fit, and how many more there are. */
export function truncateSteps(steps: readonly string[]): string[] {
  let bytesLeft = STEPS_LIMIT;
  const end = steps.findIndex((step) => {
    bytesLeft -= Buffer.byteLength(step) + 8;
    return bytesLeft < 0;
  });
  return end < 0 ? [...steps] : [...steps.slice(0, end), `… and ${steps.length - end} more operations`];
}

/**
 * Routes that somebody made where one of ours is, and that cannot be told by what ours are told by: their device is one
 * of these words, which is no link, so they differ from anything wanted.
 */
export const FOREIGN_DEVICE = 'none';

/** So many routes of one destination and table, which differ in their metric. */
export function multipleRoutesDevice(count: number): string {
  return `${count}-routes`;
}

/** How many routes stand behind such a word; 0 for the name of a link. */
export function foreignRouteCount(dev: string): number {
  if (dev === FOREIGN_DEVICE || /^if\d+$/.test(dev)) return 1;
  return Number(/^(\d+)-routes$/.exec(dev)?.[1] ?? 0);
}

const UNITS: readonly [limit: number, unit: number, name: string][] = [
  [60, 1, 'second'],
  [3600, 60, 'minute'],
  [36 * 3600, 3600, 'hour'],
  [14 * 86_400, 86_400, 'day'],
  [70 * 86_400, 7 * 86_400, 'week'],
  [730 * 86_400, 30 * 86_400, 'month'],
  [Number.POSITIVE_INFINITY, 365 * 86_400, 'year'],
];

/** Milliseconds as text in whole units, rounded down: `12 seconds`, `1 minute`. */
export function ageText(milliseconds: number): string {
  const seconds = Math.floor(Math.max(0, milliseconds) / 1000);
  if (seconds === 0) return 'less than a second';
  const [, unit, name] = UNITS.find(([limit]) => seconds < limit)!;
  const count = Math.floor(seconds / unit);
  return `${count} ${name}${count === 1 ? '' : 's'}`;
}

/** Decimal, as Docker reads `max-size` (go-units, FromHumanSize). */
const UNITS = { g: 1_000_000_000, m: 1_000_000, k: 1_000 } as const;

/** Bytes of `10m`, `10MB`, `1.5g` or `4096`; undefined for anything else. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,9})?) ?(?:([kmg])?b?)$/i.exec(text);
  if (match === null) return undefined;
  const unit = match[2]?.toLowerCase() as keyof typeof UNITS | undefined;
  return Math.round(Number(match[1]) * (unit === undefined ? 1 : UNITS[unit]));
}

/** The shortest text that `parseSize` reads back: 10000000 is `10m`. */
export function formatSize(bytes: number): string {
  for (const [unit, size] of Object.entries(UNITS))
    if (bytes > 0 && bytes % size === 0) return `${bytes / size}${unit}`;
  return `${bytes}`;
}

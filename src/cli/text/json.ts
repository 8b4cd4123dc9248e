/** Maps whose keys are people's own words and stay as they are. */
const USER_MAPS = new Set(['labels', 'environment']);
/** Milliseconds since the epoch in messages, ISO 8601 in JSON; 0 is "never". */
const TIMESTAMP_KEYS = new Set(['createdAt', 'updatedAt', 'startedAt', 'since', 'stateSince']);

/** The JSON every listing verb prints: an array of objects, keys in lower case. */
export function renderJson(rows: readonly object[]): string {
  return `${JSON.stringify(rows.map(lowerKeys), null, 2)}\n`;
}

function lowerKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(lowerKeys);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (USER_MAPS.has(key)) return [key, inner];
      if (TIMESTAMP_KEYS.has(key) && typeof inner === 'number')
        return [key.toLowerCase(), inner === 0 ? null : new Date(inner).toISOString()];
      return [key.toLowerCase(), lowerKeys(inner)];
    }),
  );
}

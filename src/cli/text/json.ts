import { printableJson } from '../../base/printable.ts';

/** Maps whose keys users or the codes of findings define: printed as they are. */
const PLAIN_MAPS = new Set(['labels', 'environment', 'params']);
/** Milliseconds since the epoch inside meshd, ISO 8601 text in JSON; 0 means never and is `null`. */
const TIMESTAMP_KEYS = new Set(['at', 'createdAt', 'updatedAt', 'startedAt', 'since', 'stateSince']);

/** The JSON of every verb: an array of objects with snake_case keys. docs/commands.md lists the keys of each verb. */
export function renderJson(rows: readonly object[]): string {
  return `${printableJson(JSON.stringify(rows.map(toJson), null, 2))}\n`;
}

function toJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (PLAIN_MAPS.has(key)) return [key, inner];
      if (TIMESTAMP_KEYS.has(key) && typeof inner === 'number') {
        return [snakeCase(key), inner === 0 ? null : new Date(inner).toISOString()];
      }
      return [snakeCase(key), toJson(inner)];
    }),
  );
}

/** `exitCode` → `exit_code`. */
const snakeCase = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

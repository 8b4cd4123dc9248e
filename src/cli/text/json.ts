/** Maps whose keys users or the codes of findings define: printed as they are. */
const PLAIN_MAPS = new Set(['labels', 'environment', 'params']);
/** Milliseconds since the epoch inside meshd, ISO 8601 text in JSON; 0 means never and is `null`. */
const TIMESTAMP_KEYS = new Set(['at', 'createdAt', 'updatedAt', 'startedAt', 'since', 'stateSince']);

/** The JSON of every verb: an array of objects with snake_case keys. docs/commands.md lists the keys of each verb. */
export function renderJson(rows: readonly object[]): string {
  const text = JSON.stringify(rows.map(toJson), null, 2);
  // JSON.stringify escapes C0 controls only; C1 controls drive terminals, too.
  return `${text.replace(/[\u007f-\u009f\u2028\u2029]/g, escapeCharacter)}\n`;
}

const escapeCharacter = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

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

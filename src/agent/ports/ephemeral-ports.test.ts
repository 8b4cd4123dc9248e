import { expect, test } from 'vitest';
import { parseEphemeralRange } from './ephemeral-ports.ts';

test.each([
  ['40000\t50000\n', { from: 40_000, to: 50_000 }],
  ['', { from: 32_768, to: 60_999 }],
  ['1024', { from: 32_768, to: 60_999 }],
])('%j', (text, expected) => {
  expect(parseEphemeralRange(text)).toEqual(expected);
});

import { expect, test } from 'vitest';
import { printable } from './printable.ts';

test.each([
  ['plain text, ümlaut, 日本', 'plain text, ümlaut, 日本'],
  ['\u001b[31mred\u001b[0m', ' [31mred [0m'],
  ['first\r\nsecond\tthird', 'first second third'],
  ['nul\0 del\u007f csi\u009b2J', 'nul  del  csi 2J'],
  ['line\u2028paragraph\u2029end', 'line paragraph end'],
  ['embedded \u202atext\u202c, override \u202etxt.exe\u202c', 'embedded  text , override  txt.exe '],
  ['isolated \u2066a\u2067b\u2068c\u2069', 'isolated  a b c '],
  ['right to left: שלום, مرحبا', 'right to left: שלום, مرحبا'],
])('%j', (text, expected) => {
  expect(printable(text)).toBe(expected);
});

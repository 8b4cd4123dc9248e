import { expect, it } from 'vitest';
import { LIMIT } from '../../model/limits.ts';
import { truncateList, truncateSteps, truncateText } from './report-limits.ts';

it('cuts texts at whole characters and replaces control characters', () => {
  expect(truncateText('a\0b\u001b[2J')).toBe('a b [2J');
  const long = truncateText('ä'.repeat(10_000));
  expect(Buffer.byteLength(long)).toBeLessThanOrEqual(4 * LIMIT.value);
  expect(long).toMatch(/^ä+…$/);
  expect(truncateList(Array.from({ length: 500 }, () => 'x'))).toHaveLength(100);
});

it('states how many operations were left out', () => {
  expect(truncateSteps(['a', 'b'])).toEqual(['a', 'b']);
  const cut = truncateSteps(Array.from({ length: 100_000 }, (_, step) => `${step} ${'x'.repeat(90)}`));
  expect(cut.at(-1)).toBe(`… and ${100_000 - (cut.length - 1)} more operations`);
  expect(cut.reduce((sum, step) => sum + Buffer.byteLength(step), 0)).toBeLessThan(4 * 1024 * 1024);
});

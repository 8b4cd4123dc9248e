import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { processIo } from './io.ts';

test('a sleep leaves nothing on its signal, and ends with it', async () => {
  const io = processIo();
  const over = new AbortController();
  await Promise.all(Array.from({ length: 5 }, () => io.sleep(1, over.signal)));
  expect(getEventListeners(over.signal, 'abort')).toEqual([]);
  const long = io.sleep(2 ** 31 - 1, over.signal);
  over.abort();
  await long;
  await io.sleep(2 ** 31 - 1, over.signal);
  expect(getEventListeners(over.signal, 'abort')).toEqual([]);
});

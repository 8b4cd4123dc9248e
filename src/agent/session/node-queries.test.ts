import { expect, it } from 'vitest';
import { runQuery } from './node-queries.ts';

const queries = {
  echo: async (argument: unknown) => argument,
  large: async () => 'x'.repeat(2_500_000),
  huge: async () => 'x'.repeat(40_000_000),
  broken: async () => {
    throw new Error('EPERM\u001b[2J\nnext');
  },
};

it('answers in chunks of which the last is marked', async () => {
  const chunks = await runQuery(queries, 'large', '');
  expect(chunks.map(({ last }) => last)).toEqual([false, false, true]);
  expect(JSON.parse(Buffer.concat(chunks.map(({ body }) => body)).toString())).toHaveLength(2_500_000);
  const [only] = await runQuery(queries, 'echo', '{"a":1}');
  expect([JSON.parse(Buffer.from(only!.body).toString()), only!.last]).toEqual([{ a: 1 }, true]);
});

it.each([
  ['broken', '', /^EPERM \[2J next$/],
  ['toString', '', /does not support the question "toString"/],
  ['echo', '{', /JSON/],
  ['huge', '', /40000002 bytes, more than/],
])('reports an error of %s(%s)', async (kind, argument, error) => {
  const chunks = await runQuery(queries, kind, argument);
  expect(chunks).toMatchObject([{ last: true, error: expect.stringMatching(error) }]);
});

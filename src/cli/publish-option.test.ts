import fc from 'fast-check';
import { expect, test } from 'vitest';
import { UsageError } from './context.ts';
import { parsePublishAdd, parsePublishRm } from './publish-option.ts';

test.each([
  ['8080:80', { published: 8080, target: 80, protocol: 'tcp', mode: 'ingress' }],
  ['53/udp', { target: 53, protocol: 'udp', mode: 'ingress' }],
  ['target=80', { target: 80, protocol: 'tcp', mode: 'ingress' }],
  ['target=80,published=0,mode=host', { target: 80, protocol: 'tcp', mode: 'host' }],
  ['Mode=HOST, Protocol=SCTP, Published=9, Target=8', { published: 9, target: 8, protocol: 'sctp', mode: 'host' }],
])('--publish-add %s', (word, port) => {
  expect(parsePublishAdd(word)).toEqual([port]);
});

test('any words give ports, or say what is wrong with them', () => {
  const piece = fc.constantFrom(
    'target',
    'published',
    'mode',
    '=',
    ',',
    ':',
    '/',
    '-',
    '80',
    '0',
    'udp',
    'host',
    '[::1]',
  );
  const word = fc.oneof(
    fc.string(),
    fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join('')),
  );
  fc.assert(
    fc.property(word, fc.constantFrom(parsePublishAdd, parsePublishRm), (text, parse) => {
      try {
        for (const { target } of parse(text)) expect(target > 0 && target < 65_536).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
        expect((error as Error).message).toMatch(/^--publish-(add|rm) "/);
      }
    }),
    { numRuns: 1000 },
  );
});

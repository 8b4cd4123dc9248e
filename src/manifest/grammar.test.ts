// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the compose-spec look like that
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { closestMatch } from './closest-match.ts';
import { formatDuration, parseDuration } from './duration.ts';
import { interpolate } from './interpolate.ts';
import { pathText, shorten } from './manifest-error.ts';
import { splitShellWords } from './shell-words.ts';

describe('durations', () => {
  test.each([
    ['1m30s', 90_000],
    ['1.5s', 1500],
    ['500ms', 500],
    ['1h', 3_600_000],
    ['1500us', 2],
    ['0', 0],
    ['0s', 0],
    ['10', undefined],
    ['', undefined],
    ['-1s', undefined],
    ['1 s', undefined],
    ['s', undefined],
    ['1d', undefined],
  ])('%s', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });

  test('what is written is read back', () => {
    fc.assert(
      fc.property(fc.nat(), (ms) => {
        expect(parseDuration(formatDuration(ms))).toBe(ms);
      }),
    );
  });
});

describe('words of a command', () => {
  test.each([
    ['sleep 60', ['sleep', '60']],
    ['  a\tb\n c  ', ['a', 'b', 'c']],
    [`sh -c "exec 'x y'" ''`, ['sh', '-c', "exec 'x y'", '']],
    [`a"b c"d 'e "f'`, ['ab cd', 'e "f']],
    ['a\\ b \\" "\\" \\n \\$"', ['a b', '"', '" \\n $']],
    ['a | b; c #d $E', ['a', '|', 'b;', 'c', '#d', '$E']],
    ['a\\\nb', ['ab']],
    ['', []],
  ])('%j', (text, words) => {
    expect(splitShellWords(text)).toEqual({ ok: true, value: words });
  });
  test.each(['"a', "a 'b", 'a\\'])('%j is refused', (text) => {
    expect(splitShellWords(text).ok).toBe(false);
  });
  test('a single-quoted word is itself', () => {
    fc.assert(
      fc.property(fc.array(fc.string()), (words) => {
        const text = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
        expect(splitShellWords(text)).toEqual({ ok: true, value: words });
      }),
    );
  });
});

describe('variables', () => {
  const environment = { A: '1', EMPTY: '', constructor_: 'x' };
  test.each([
    ['$A', '1'],
    ['a${A}b$A', 'a1b1'],
    ['$$A $$$A', '$A $1'],
    ['${EMPTY:-d}${EMPTY-d}', 'd'],
    ['${NO:-d} ${NO-}', 'd '],
    ['${A:+y}${EMPTY:+y}${NO+y}${EMPTY+z}', 'yz'],
    ['${A?x}', '1'],
    ['no variables', 'no variables'],
  ])('%s', (text, value) => {
    expect(interpolate(text, environment)).toEqual({ ok: true, value });
  });
  test.each([
    ['$NO', /NO is not set/],
    ['${NO:?where is it}', /NO is not set: where is it/],
    ['${EMPTY:?x}', /EMPTY is not set: x/],
    ['$', /does not start a variable/],
    ['$1', /does not start a variable/],
    ['${A', /not closed/],
    ['${A!b}', /not a valid variable/],
    ['$toString', /toString is not set/],
  ])('%s is refused', (text, message) => {
    const result = interpolate(text, environment);
    expect(result.ok ? '' : result.error.message).toMatch(message);
  });
  test('doubling the dollars protects any text', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(interpolate(text.replaceAll('$', '$$$$'), {})).toEqual({ ok: true, value: text });
      }),
    );
  });
});

test('the nearest word, or none', () => {
  const words = ['healthcheck', 'command', 'ports', 'deploy'];
  expect(closestMatch('helthchek', words)).toBe('healthcheck');
  expect(closestMatch('comand', words)).toBe('command');
  expect(closestMatch('prots', words)).toBe('ports');
  expect(closestMatch('PORTS', words)).toBe('ports');
  expect(closestMatch('volumes', words)).toBe(undefined);
  expect(closestMatch('x'.repeat(10_000), words)).toBe(undefined);
});

test('paths as people write them, input that cannot reach a terminal', () => {
  expect(pathText(['services', 'web', 'ports', 0, 'published'])).toBe('services.web.ports[0].published');
  expect(pathText(['services', 'a b', 'x-mesh'])).toBe('services["a b"].x-mesh');
  expect(shorten('a\u001b[31m\nb')).toBe('a [31m b');
  expect(shorten('x'.repeat(100))).toHaveLength(60);
});

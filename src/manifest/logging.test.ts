import { describe, expect, test } from 'vitest';
import { formatSize, parseSize } from './size.ts';
import { errors, service, specOf } from './test-kit.ts';

const logOf = (written: string) => specOf(`logging: ${written}`).log;

describe('logging', () => {
  test.each([
    ['{options: {max-size: 1m, max-file: "5"}}', { maxSize: 1_000_000, maxFiles: 5 }],
    ['{driver: local, options: {max-size: 500k}}', { maxSize: 500_000, maxFiles: 3 }],
    ['{driver: json-file, options: {max-file: 1}}', { maxSize: 10_000_000, maxFiles: 1 }],
    ['{x-note: whatever, options: {max-size: 4000}}', { maxSize: 4_000, maxFiles: 3 }],
    ['{driver: json-file}', undefined],
    ['{options: {max-size: 10m, max-file: 3}}', undefined],
    ['{options: ~}', undefined],
  ])('%s', (written, expected) => {
    expect(logOf(written)).toEqual(expected);
  });

  test.each([
    ['{driver: syslog}', 'logging.driver: must be one of json-file, local, but is the text "syslog"'],
    ['{options: {max-size: big}}', 'logging.options.max-size: must be a size, but is the text "big"; write a number'],
    ['{options: {max-size: 1k}}', 'logging.options.max-size: 1k is outside 4k-4g; choose one of 4k-4g'],
    ['{options: {max-size: -1}}', 'logging.options.max-size: must be a size, but is the number -1'],
    ['{options: {max-size: 5g}}', 'logging.options.max-size: 5g is outside 4k-4g'],
    ['{options: {max-file: 0}}', 'logging.options.max-file: 0 files cannot hold a log; choose one of 1-100'],
    ['{options: {max-file: 101}}', 'logging.options.max-file: 101 is outside 0-100; choose one of 1-100'],
    [
      '{options: {compress: "true"}}',
      'logging.options.compress: unknown key `compress`; use one of max-size, max-file',
    ],
    ['{option: {}}', 'logging.option: unknown key `option`; did you mean `options`?'],
    ['journald', 'logging: must be a map, but is the text "journald"; write it like `logging: {options:'],
  ])('%s is an error', (written, message) => {
    expect(errors(service(`logging: ${written}`))[0]).toContain(`services.a.${message}`);
  });
});

test.each([
  ['10m', 10_000_000],
  ['10 MB', 10_000_000],
  ['1.5g', 1_500_000_000],
  ['512kb', 512_000],
  ['100B', 100],
  ['4096', 4_096],
  ['10x', undefined],
  ['m', undefined],
  ['1e3', undefined],
])('the size %s is %s bytes', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
  if (bytes !== undefined) expect(parseSize(formatSize(bytes))).toBe(bytes);
});

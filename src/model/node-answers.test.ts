import { describe, expect, test } from 'vitest';
import { finding } from './doctor.ts';
import {
  parseDoctorReport,
  parseHistoryQuery,
  parseHistoryResult,
  parseKernelAnswer,
  parsePortFilter,
} from './node-answers.ts';

const body = (value: unknown) => Buffer.from(JSON.stringify(value));
const report = {
  now: 10,
  took: 2.5,
  version: '1',
  findings: [finding('ok', 'KernelMatches', {})],
  echoes: [{ nodeId: 'n2', underlay: '192.0.2.2', small: 0.5 }],
};
const change = {
  at: 1,
  took: 2,
  why: 'repair',
  revision: 3,
  wrong: [],
  by: [],
  services: [],
  steps: [],
  count: 0,
  failures: [],
};

describe('an answer', () => {
  test('is read, without the fields of a newer version', () => {
    expect(parseDoctorReport(body({ ...report, temperature: 40 }))).toEqual(report);
    expect(parseHistoryResult(body({ changes: [{ ...change, user: 'x' }] }))).toEqual({ changes: [change] });
    const kernel = { revision: 1, addresses: ['192.0.2.1'], objects: [{ kind: 'netns' }] };
    expect(parseKernelAnswer(body(kernel))).toEqual(kernel);
  });

  test.each<[string, () => unknown, RegExp]>([
    ['that is no JSON', () => parseDoctorReport(Buffer.from('{')), /not JSON/],
    ['of another type', () => parseDoctorReport(body([])), /its answer cannot be read \(Invalid input/],
    [
      'with a finding without a code',
      () => parseDoctorReport(body({ ...report, findings: [{ level: 'ok' }] })),
      /\(findings\.0\.code: /,
    ],
    [
      'with an unknown level',
      () => parseDoctorReport(body({ ...report, findings: [{ ...report.findings[0], level: 'fatal' }] })),
      /findings\.0\.level/,
    ],
    [
      'with a time that is a text',
      () => parseHistoryResult(body({ changes: [{ ...change, at: 'now' }] })),
      /changes\.0\.at/,
    ],
    ['without objects', () => parseKernelAnswer(body({ revision: 1, addresses: [] })), /objects/],
    [
      'with a text beyond all measure',
      () => parseDoctorReport(body({ ...report, version: 'x'.repeat(100_000) })),
      /version/,
    ],
  ])('%s is rejected', (_, read, message) => {
    expect(read).toThrow(message);
  });
});

test('a question is checked', () => {
  expect(parseHistoryQuery(undefined)).toEqual({});
  expect(() => parseHistoryQuery({ limit: 0 })).toThrow(/limit/);
  expect(() => parseHistoryQuery({ age: '10m' })).toThrow(/age/);
  expect(parsePortFilter(undefined)).toBeUndefined();
  expect(() => parsePortFilter({ protocol: 'icmp', published: 1 })).toThrow(/protocol/);
  expect(() => parsePortFilter(null)).toThrow(/malformed/);
});

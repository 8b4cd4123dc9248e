import { describe, expect, test } from 'vitest';
import type { HealthCheck, HealthProbe } from '../model/spec.ts';
import { errors, service, specOf, specs } from './test-kit.ts';

const DOCKER = { interval: 30_000, timeout: 30_000, retries: 3, startPeriod: 0, startInterval: 5_000 };
const meshService = (keys: string) => `services: {a: {command: [x], x-mesh: {runtime: process, ${keys}}}}`;

describe('healthcheck', () => {
  const probes: [string, HealthProbe | undefined][] = [
    ['test: curl -f localhost || exit 1', { kind: 'shell', command: 'curl -f localhost || exit 1' }],
    ['test: [CMD-SHELL, "a | b"]', { kind: 'shell', command: 'a | b' }],
    ['test: [CMD, check, 1.0, "", yes]', { kind: 'command', command: ['check', '1.0', '', 'yes'] }],
    ['test: [NONE]', undefined],
    ['disable: true', undefined],
    ['disable: "true", test: [NONE]', undefined],
    ['test: "true", disable: false', { kind: 'shell', command: 'true' }],
  ];
  test.each(probes)('%s', (keys, probe) => {
    const { health } = specOf(`healthcheck: {${keys}}`);
    expect(health).toEqual(probe === undefined ? undefined : { probe, ...DOCKER });
  });

  test('times', () => {
    const times = 'interval: 5s, timeout: 1500ms, retries: 7, start_period: 1m, start_interval: 1s, x-note: 1';
    const expected: Omit<HealthCheck, 'probe'> = {
      interval: 5_000,
      timeout: 1_500,
      retries: 7,
      startPeriod: 60_000,
      startInterval: 1_000,
    };
    expect(specOf(`healthcheck: {test: x, ${times}}`).health).toMatchObject(expected);
    expect(specOf('healthcheck: {test: x, interval: 0s, timeout: 0, retries: 0}').health).toMatchObject(DOCKER);
  });

  test('probes meshd makes itself', () => {
    const health = (keys: string) => specs(meshService(`healthcheck: {${keys}}`))[0]?.health;
    expect(health('tcp: 80')).toEqual({ probe: { kind: 'tcp', port: 80 }, ...DOCKER });
    expect(health('http: {port: "8080", path: /health?deep=1}, interval: 2s')).toEqual({
      probe: { kind: 'http', port: 8080, path: '/health?deep=1' },
      ...DOCKER,
      interval: 2_000,
    });
    expect(health('http: {port: 80}')?.probe).toEqual({ kind: 'http', port: 80, path: '/' });
  });

  const refused: [string, RegExp][] = [
    [service('healthcheck: {}'), /services\.a\.healthcheck: has no test; write `test: .*x-mesh\.healthcheck/],
    [service('healthcheck: {tst: x}'), /healthcheck\.tst: unknown key `tst`; did you mean `test`\?/],
    [service('healthcheck: x'), /healthcheck: must be a map, but is the text "x"; write it like/],
    [service('healthcheck: {test: []}'), /healthcheck\.test: must be text or a list, but is empty/],
    [service('healthcheck: {test: ""}'), /healthcheck\.test: has no command/],
    [service('healthcheck: {test: [curl, x]}'), /test\[0\]: a list starts with CMD, CMD-SHELL or NONE, but this one/],
    [service('healthcheck: {test: [CMD]}'), /test: CMD has no command/],
    [service('healthcheck: {test: [CMD-SHELL, a, b]}'), /test: CMD-SHELL requires exactly one text, not 2/],
    [service('healthcheck: {test: [CMD-SHELL]}'), /test: CMD-SHELL requires exactly one text, not 0/],
    [service('healthcheck: {test: [NONE, x]}'), /test\[1\]: NONE does not accept a command/],
    [service('healthcheck: {test: [CMD, [x]]}'), /test\[1\]: must be text, but is a list/],
    [service('healthcheck: {test: x, disable: true}'), /disable: `disable` and `test` contradict each other/],
    [service('healthcheck: {disable: 1}'), /disable: must be true or false, but is the number 1/],
    [service('healthcheck: {test: x, interval: 5}'), /healthcheck\.interval: must be a duration/],
    [service('healthcheck: {test: x, retries: -1}'), /healthcheck\.retries: -1 is outside/],
    [meshService('healthcheck: {}'), /x-mesh\.healthcheck: has neither tcp nor http; write `healthcheck: \{tcp: 80\}`/],
    [meshService('healthcheck: {tcp: 1, http: {port: 1}}'), /x-mesh\.healthcheck: has both tcp and http/],
    [meshService('healthcheck: {tcp: 0}'), /x-mesh\.healthcheck\.tcp: port 0 is outside 1-65535/],
    [meshService('healthcheck: {tcp: 70000}'), /tcp: 70000 is outside 0-65535; choose one of 1-65535/],
    [meshService('healthcheck: {http: 80}'), /http: must be a map, but is the number 80; write it like `http: \{/],
    [meshService('healthcheck: {http: {}}'), /http\.port: must be a whole number, but is empty/],
    [
      meshService('healthcheck: {http: {port: 80, path: health}}'),
      /http\.path: must be the path of a URL.*start it with/,
    ],
    [meshService('healthcheck: {http: {port: 80, path: "/a b"}}'), /http\.path: must be the path of a URL/],
    [meshService('healthcheck: {http: {prt: 80, port: 80}}'), /http\.prt: unknown key `prt`; did you mean `port`\?/],
    [meshService('healthcheck: {test: x}'), /x-mesh\.healthcheck\.test: unknown key `test`/],
    [
      meshService('healthcheck: {tcp: 80}').replace('command:', 'healthcheck: {test: x}, command:'),
      /services\.a\.x-mesh\.healthcheck: conflicts with `healthcheck`: a service has at most one; remove one of them/,
    ],
  ];
  test.each(refused)('%s is refused', (text, message) => {
    const found = errors(text);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(message);
  });
});

describe('weight', () => {
  const weightOf = (written: string) => specs(meshService(`weight: ${written}`))[0]?.weight;
  test.each([
    ['5', { default: 5 }],
    ['"5"', { default: 5 }],
    ['1', undefined],
    ['node.labels.cpus', { label: 'cpus', default: 1 }],
    ['{label: Cpus}', { label: 'Cpus', default: 1 }],
    ['{label: node.labels.a/b.c, default: 10}', { label: 'a/b.c', default: 10 }],
    ['{default: 3}', { default: 3 }],
  ])('%s', (written, expected) => {
    expect(weightOf(written)).toEqual(expected);
  });
  test.each([
    ['0', /x-mesh\.weight\.default: a weight of 0 would exclude the tasks from load balancing/],
    ['-1', /-1 is outside 0-65535/],
    ['65536', /65536 is outside 0-65535; choose one of 1-65535/],
    ['1.5', /must be a whole number, but is the number 1\.5/],
    ['""', /must be text, but is empty/],
    ['node.labels.', /is not a label of a node; write it like `node\.labels\.cpus`/],
    ['[]', /weight: must be a map, but is a list; write it like `weight: node\.labels\.cpus`/],
    ['{lable: x}', /weight\.lable: unknown key `lable`; did you mean `label`\?/],
  ])('%s is refused', (written, message) => {
    expect(errors(meshService(`weight: ${written}`))[0]).toMatch(message);
  });
});

describe('update_config', () => {
  test.each([
    ['', undefined],
    ['parallelism: 1, delay: 0s, order: start-first', undefined],
    ['parallelism: 0', { parallelism: 0, delay: 0, order: 'start-first' }],
    ['delay: 10s, order: stop-first, x-note: 1', { parallelism: 1, delay: 10_000, order: 'stop-first' }],
  ])('{%s}', (keys, expected) => {
    expect(specOf(`deploy: {update_config: {${keys}}}`).update).toEqual(expected);
  });
});

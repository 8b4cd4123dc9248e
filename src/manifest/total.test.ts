// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the compose-spec look like that
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LIMITS } from './limits.ts';
import { parseManifest } from './manifest.ts';
import { formatManifestError } from './manifest-error.ts';
import { options } from './test-kit.ts';

describe('any text gives a result', () => {
  const total = (text: string): void => {
    const result = parseManifest(text, options);
    if (result.ok) expect(result.value.length).toBeGreaterThan(0);
    else {
      expect(result.error.length).toBeGreaterThan(0);
      expect(result.error.length).toBeLessThanOrEqual(LIMITS.errors);
      for (const error of result.error) {
        expect(error.line).toBeGreaterThanOrEqual(1);
        expect(error.column).toBeGreaterThanOrEqual(1);
        expect(error.message).not.toBe('');
        expect(error.remedy).not.toBe('');
        expect(formatManifestError(error)).not.toMatch(/\n/);
      }
    }
  };

  const sample = `x-base: &base {labels: {a: b}, deploy: {replicas: 2}}
services:
  web:
    <<: *base
    command: sh -c "exec sleep 60"
    environment: {A: "\${HOME_DIR}", B: 1}
    ports: ["8080:80", {target: 53, published: 5353, protocol: udp}]
    deploy:
      restart_policy: {condition: any, delay: 1s}
      placement: {constraints: [node.labels.x == y]}
    x-mesh: {runtime: process}
`;

  test('random text', () => {
    fc.assert(fc.property(fc.string({ maxLength: 300, unit: 'binary' }), total), { numRuns: 400 });
  });

  test('a good manifest with pieces cut out, doubled and replaced', () => {
    total(sample);
    const piece = fc.constantFrom(
      '',
      '*base',
      '&x ',
      '<<: ',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '"',
      "'",
      ':',
      '\t',
      '\n',
      '~',
      '$',
      '!t ',
      '? ',
      '0',
      '---\n',
      '-1',
      '|',
    );
    const edit = fc.tuple(fc.nat(sample.length), fc.nat(12), piece);
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), (edits) => {
        total(
          edits.reduce((text, [at, length, insert]) => text.slice(0, at) + insert + text.slice(at + length), sample),
        );
      }),
      { numRuns: 400 },
    );
  });

  test('any value at any place of a service', () => {
    const keys = [
      'command',
      'entrypoint',
      'environment',
      'labels',
      'ports',
      'deploy',
      'user',
      'working_dir',
      'stop_grace_period',
      'x-mesh',
    ];
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.jsonValue({ maxDepth: 4 }), (key, value) => {
        total(JSON.stringify({ services: { a: { command: ['x'], 'x-mesh': { runtime: 'process' }, [key]: value } } }));
      }),
      { numRuns: 400 },
    );
  });

  test.each([
    ['bad ports', `services: {a: {ports: [${'x,'.repeat(130_000)}]}}`],
    ['unknown keys', `services: {a: {${Array.from({ length: 60_000 }, (_, n) => `k${n}: 1`).join()}}}`],
    ['keys written twice', `services:\n${'  a: b\n'.repeat(60_000)}`],
    ['variables not set', `services: {a: {command: [${'$A,'.repeat(120_000)}]}}`],
    ['documents', '---\nservices: 1\n'.repeat(30_000)],
    ['closing brackets', ']'.repeat(100_000)],
    ['escapes', `"${'\\x'.repeat(100_000)}"`],
  ])('very many %s', (_, text) => total(text));

  test('any value in deploy', () => {
    const keys = ['mode', 'replicas', 'labels', 'placement', 'restart_policy'];
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.jsonValue({ maxDepth: 3 }), (key, value) => {
        total(
          JSON.stringify({
            services: { a: { command: ['x'], 'x-mesh': { runtime: 'process' }, deploy: { [key]: value } } },
          }),
        );
      }),
      { numRuns: 400 },
    );
  });
});

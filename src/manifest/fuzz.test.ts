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
    ports:
      - "127.0.0.1:8080-8081:80-81"
      - {target: 53, published: 5353, protocol: udp, host_ip: "::1", x-mesh: {policy: local, persistence: 5m}}
      - target: 1
        mode: ingress
        x-mesh:
          ingress: {nodes: [node.role == worker], addresses: [10.0.0.1/8]}
          allow_from: ["2001:db8::/32"]
          scheduler: sh
          scheduler_flags: [sh-port]
          fallback: lc
          persistence: {timeout: 5m, mask: /24, mask6: 64}
          idle_timeout: 2h
    healthcheck: {test: [CMD-SHELL, "exit 0"], interval: 5s, retries: 2}
    deploy:
      restart_policy: {condition: any, delay: 1s}
      placement: {constraints: [node.labels.x == y]}
      update_config: {parallelism: 2, delay: 1s, order: stop-first}
    x-mesh: {runtime: process, weight: node.labels.cpus}
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
      'cap_add',
      'privileged',
      'working_dir',
      'stop_grace_period',
      'x-mesh',
      'healthcheck',
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
    const keys = ['mode', 'replicas', 'labels', 'placement', 'restart_policy', 'update_config'];
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

  test('any value anywhere in a port', () => {
    const keys = ['target', 'published', 'protocol', 'mode', 'host_ip', 'x-mesh'];
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.jsonValue({ maxDepth: 3 }), (key, value) => {
        const ports = [{ target: 80, [key]: value }];
        total(JSON.stringify({ services: { a: { command: ['x'], 'x-mesh': { runtime: 'process' }, ports } } }));
      }),
      { numRuns: 400 },
    );
  });

  test('any value anywhere in x-mesh of a port', () => {
    const keys = [
      'ingress',
      'allow_from',
      'scheduler',
      'scheduler_flags',
      'fallback',
      'persistence',
      'idle_timeout',
      'policy',
    ];
    const inner = fc.constantFrom('nodes', 'addresses', 'timeout', 'mask', 'mask6');
    const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.dictionary(inner, fc.jsonValue({ maxDepth: 1 })));
    fc.assert(
      fc.property(fc.constantFrom(...keys), value, (key, value) => {
        const ports = [{ target: 80, 'x-mesh': { [key]: value } }];
        total(JSON.stringify({ services: { a: { command: ['x'], 'x-mesh': { runtime: 'process' }, ports } } }));
      }),
      { numRuns: 400 },
    );
  });

  test('any value anywhere in health checks and weights', () => {
    const keys = ['test', 'disable', 'interval', 'retries', 'tcp', 'http', 'port', 'path', 'label', 'default'];
    const map = fc.dictionary(fc.constantFrom(...keys), fc.jsonValue({ maxDepth: 2 }));
    const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), map, fc.record({ http: map }));
    fc.assert(
      fc.property(value, value, value, (healthcheck, probe, weight) => {
        total(JSON.stringify({ services: { a: { command: ['x'], 'x-mesh': { runtime: 'process' }, healthcheck } } }));
        const mesh = { runtime: 'process', healthcheck: probe, weight };
        total(JSON.stringify({ services: { a: { command: ['x'], 'x-mesh': mesh } } }));
      }),
      { numRuns: 400 },
    );
  });

  test('any text as the only network, address, mask or port', () => {
    const text = fc.oneof(fc.stringMatching(/^[0-9a-f:./[\]%-]{0,24}$/), fc.ipV4Extended(), fc.ipV6());
    fc.assert(
      fc.property(text, (text) => {
        const ports: unknown[] = [
          text,
          `${text}:80:80`,
          { target: 80, host_ip: text },
          { target: 80, 'x-mesh': { allow_from: [text], persistence: { timeout: '1s', mask: text, mask6: text } } },
        ];
        for (const port of ports) {
          total(
            JSON.stringify({ services: { a: { command: ['x'], 'x-mesh': { runtime: 'process' }, ports: [port] } } }),
          );
        }
      }),
      { numRuns: 400 },
    );
  });
});

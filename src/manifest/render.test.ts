// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the compose-spec look like that
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';
import { LIMITS } from './limits.ts';
import { parseManifest } from './manifest.ts';
import { comparePorts } from './ports.ts';
import { renderManifest } from './render.ts';

const name = fc.stringMatching(/^[A-Za-z0-9]([-_]?[A-Za-z0-9]){0,8}$/);
// All of Unicode that a YAML file and a process may hold; lone surrogates are no text.
const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  fc.string({ unit: 'binary', maxLength: 8 }).map((word) => word.replaceAll('\0', '')),
);
const awkward = fc.constantFrom(
  '',
  '~',
  'yes',
  '1.0',
  '0x1f',
  '- a',
  'a: b',
  '#',
  '$',
  '$$',
  '${A}',
  '"',
  "'",
  '\\',
  '\n',
  ' a ',
  '|',
  '*a',
  '&a',
  '!b',
  '%',
  '2024-01-01',
  '<<',
  '\t',
);
const word = fc.oneof(text, awkward);
const record = fc.dictionary(
  word.filter((key) => key !== '__proto__' && key !== '' && !key.includes('=')),
  word,
  { maxKeys: 4 },
);
const port: fc.Arbitrary<PortSpec> = fc.record(
  {
    protocol: fc.constantFrom('tcp', 'udp', 'sctp'),
    target: fc.integer({ min: 1, max: 65_535 }),
    published: fc.integer({ min: 1, max: 65_535 }),
    mode: fc.constant('ingress'),
  },
  { requiredKeys: ['protocol', 'target', 'mode'] },
);
const duration = fc.integer({ min: 0, max: LIMITS.duration });

const spec: fc.Arbitrary<ServiceSpec> = fc
  .record(
    {
      name,
      labels: fc.dictionary(fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_./-]{0,9}$/), word, { maxKeys: 4 }),
      runtime: fc.constant('process' as const),
      command: fc
        .tuple(
          word.filter((first) => first !== ''),
          fc.array(word, { maxLength: 4 }),
        )
        .map(([first, rest]) => [first, ...rest]),
      workingDir: word.map((path) => `/${path}`),
      user: fc.constantFrom('nobody', '0', '1000:1000', 'www-data:adm'),
      environment: record,
      mode: fc.constantFrom('replicated' as const, 'global' as const),
      replicas: fc.integer({ min: 0, max: 10_000 }),
      constraints: fc.array(
        fc.record({
          key: fc.constantFrom('node.hostname', 'node.id', 'node.labels.Zone', 'node.labels.a.b/c'),
          operator: fc.constantFrom('==' as const, '!=' as const),
          value: fc.constantFrom('node1', 'a b', '$x', '==', '#1'),
        }),
        { maxLength: 3 },
      ),
      restart: fc.record(
        {
          condition: fc.constantFrom('any' as const, 'on-failure' as const, 'none' as const),
          delay: duration,
          maxAttempts: fc.nat(1000),
          window: duration,
        },
        { requiredKeys: ['condition', 'maxAttempts', 'window'] },
      ),
      stopGracePeriod: duration,
      ports: fc.array(port, { maxLength: 5 }),
    },
    {
      requiredKeys: [
        'name',
        'labels',
        'runtime',
        'command',
        'workingDir',
        'environment',
        'mode',
        'replicas',
        'constraints',
        'restart',
        'stopGracePeriod',
        'ports',
      ],
    },
  )
  .map((raw) => ({ ...raw, replicas: raw.mode === 'global' ? 1 : raw.replicas }));

/** Several specs that no one could object to together: names and ports differ. */
const cluster = fc.uniqueArray(spec, { selector: ({ name }) => name, minLength: 1, maxLength: 4 }).map((specs) => {
  const taken = new Set<string>();
  return specs.map((each) => ({
    ...each,
    ports: each.ports
      .filter(({ published, protocol, target }) => {
        const key = published === undefined ? `${each.name} ${target} ${protocol}` : `${published} ${protocol}`;
        return !taken.has(key) && taken.add(key);
      })
      .sort(comparePorts),
  }));
});

const byName = (specs: readonly ServiceSpec[]) => [...specs].sort((a, b) => (a.name < b.name ? -1 : 1));

test('the canonical form read back gives the same specs, and is its own canonical form', () => {
  fc.assert(
    fc.property(cluster, (specs) => {
      const rendered = renderManifest(specs);
      const read = parseManifest(rendered, { file: 'canonical' });
      if (!read.ok) throw new Error(`${JSON.stringify(read.error)}\n${rendered}`);
      expect(byName(read.value)).toEqual(byName(specs));
      expect(renderManifest(read.value)).toBe(rendered);
    }),
    { numRuns: 150 },
  );
});

test('what it looks like', () => {
  const read = parseManifest(
    'services: {web: {command: "echo $$HOME", ports: ["80-81:80-81"], deploy: {mode: global}, x-mesh: {runtime: process}}}',
    { file: 'f' },
  );
  expect(read.ok && renderManifest(read.value)).toBe(`services:
  web:
    command:
      - echo
      - $$HOME
    working_dir: /
    ports:
      - target: 80
        published: 80
        protocol: tcp
        mode: ingress
      - target: 81
        published: 81
        protocol: tcp
        mode: ingress
    stop_grace_period: 10s
    deploy:
      mode: global
      restart_policy:
        condition: any
        max_attempts: 0
        window: 0s
    x-mesh:
      runtime: process
`);
});

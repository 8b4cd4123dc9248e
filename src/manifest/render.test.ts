// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the compose-spec look like that
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CAPABILITIES } from '../model/capabilities.ts';
import { sameValue } from '../model/equality.ts';
import {
  DEFAULT_LOG,
  DEFAULT_UPDATE,
  type HealthCheck,
  type PortSpec,
  SCHEDULER_FLAGS,
  SCHEDULERS,
  type ServiceSpec,
  type UpdateConfig,
  type WeightSpec,
} from '../model/spec.ts';
import { LIMITS } from './limits.ts';
import { parseManifest } from './manifest.ts';
import { sortedNetworks } from './networks.ts';
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
const constraint = fc.record({
  key: fc.constantFrom('node.hostname', 'node.id', 'node.labels.Zone', 'node.labels.a.b/c'),
  operator: fc.constantFrom('==' as const, '!=' as const),
  value: fc.constantFrom('node1', 'a b', '$x', '==', '#1'),
});
const duration = fc.integer({ min: 0, max: LIMITS.duration });
const seconds = fc.integer({ min: 1, max: LIMITS.duration / 1000 }).map((count) => count * 1000);
const networks = fc
  .subarray(['0.0.0.0/0', '10.0.0.0/8', '192.0.2.7/32', '2001:db8::/33', '::/0', '::1/128'], { minLength: 1 })
  .map(sortedNetworks);
const numbers = fc.integer({ min: 1, max: 65_535 });
const optional = { requiredKeys: [] as [] };

/** Balancing of an ingress port; what is the default anyway is never there. */
const balancing = fc
  .record(
    {
      nodes: fc.array(constraint, { minLength: 1, maxLength: 3 }),
      addresses: networks,
      allowFrom: networks,
      scheduler: fc.constantFrom(...SCHEDULERS.filter((name) => name !== 'rr')),
      schedulerFlags: fc.subarray([...SCHEDULER_FLAGS], { minLength: 1 }),
      fallback: fc.constantFrom(...SCHEDULERS.filter((name) => name !== 'rr')),
      persistence: fc.record({
        timeout: seconds,
        prefix: fc.record({ inet: fc.integer({ min: 1, max: 32 }), inet6: fc.integer({ min: 1, max: 128 }) }),
      }),
      idleTimeout: seconds,
      policy: fc.constantFrom('prefer-local' as const, 'local' as const),
      ready: fc.constant(false as const),
    },
    optional,
  )
  .map(({ schedulerFlags = [], fallback, ...rest }): Partial<PortSpec> => {
    const flags = schedulerFlags.filter((flag) => flag.startsWith(`${rest.scheduler}-`));
    return {
      ...rest,
      ...(flags.length === 0 ? {} : { schedulerFlags: flags }),
      ...(fallback === undefined || fallback === rest.scheduler ? {} : { fallback }),
    };
  });
const restrictions = fc.record(
  { addresses: networks, allowFrom: networks, idleTimeout: seconds, ready: fc.constant(false as const) },
  optional,
);
const port: fc.Arbitrary<PortSpec> = fc
  .record(
    { protocol: fc.constantFrom('tcp', 'udp', 'sctp'), target: numbers, published: numbers },
    { requiredKeys: ['protocol', 'target'] },
  )
  .chain((numbered) =>
    fc.oneof(
      balancing.map((more): PortSpec => ({ ...numbered, mode: 'ingress', ...more })),
      restrictions.map((more): PortSpec => ({ ...numbered, mode: 'host', ...more })),
    ),
  );

const health: fc.Arbitrary<HealthCheck> = fc.record({
  probe: fc.oneof(
    fc.record({ kind: fc.constant('command' as const), command: fc.tuple(fc.constantFrom('$a', '1.0', 'NONE'), word) }),
    fc.record({ kind: fc.constant('shell' as const), command: word.filter((text) => text.trim() !== '') }),
    fc.record({ kind: fc.constant('tcp' as const), port: numbers }),
    fc.record({ kind: fc.constant('http' as const), port: numbers, path: fc.constantFrom('/', '/a?b=$c#', '/%20') }),
  ),
  interval: fc.integer({ min: 1, max: LIMITS.duration }),
  timeout: fc.integer({ min: 1, max: LIMITS.duration }),
  retries: fc.integer({ min: 1, max: 1_000_000 }),
  startPeriod: duration,
  startInterval: fc.integer({ min: 1, max: LIMITS.duration }),
});
const weight: fc.Arbitrary<WeightSpec> = fc.oneof(
  fc.record({ default: fc.integer({ min: 2, max: 65_535 }) }),
  fc.record({ label: fc.constantFrom('cpus', 'node.labels', 'A/b.c-d'), default: numbers }),
);
const log = fc
  .record({
    maxSize: fc.integer({ ...LIMITS.logSize }),
    maxFiles: fc.integer({ min: 1, max: LIMITS.logFiles }),
  })
  .filter((limits) => !sameValue(limits, DEFAULT_LOG));
const update: fc.Arbitrary<UpdateConfig> = fc
  .record({
    parallelism: fc.nat(10_000),
    delay: duration,
    order: fc.constantFrom('start-first' as const, 'stop-first' as const),
  })
  .filter((config) => !sameValue(config, DEFAULT_UPDATE));

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
      capDrop: fc.subarray([...CAPABILITIES], { minLength: 1 }),
      user: fc.constantFrom('games', '0', '1000:1000', 'www-data:adm'),
      environment: record,
      mode: fc.constantFrom('replicated' as const, 'global' as const),
      replicas: fc.integer({ min: 0, max: 10_000 }),
      constraints: fc.array(constraint, { maxLength: 3 }),
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
      update,
      health,
      weight,
      log,
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
      .filter(({ published, protocol, target, mode }) => {
        const key = published === undefined ? `${each.name} ${target} ${protocol} ${mode}` : `${published} ${protocol}`;
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

test('what optional parts look like', () => {
  const written = `services:
  web:
    command:
      - x
    working_dir: /
    ports:
      - target: 80
        published: 8080
        protocol: tcp
        mode: ingress
        x-mesh:
          ingress:
            nodes:
              - node.labels.edge == true
            addresses:
              - 192.0.2.7/32
          allow_from:
            - 10.0.0.0/8
            - 2001:db8::/32
          scheduler: sh
          scheduler_flags:
            - sh-port
          fallback: lc
          persistence:
            timeout: 5m
            mask: /24
            mask6: /64
          idle_timeout: 2h
          policy: prefer-local
      - target: 53
        protocol: udp
        mode: host
    stop_grace_period: 10s
    deploy:
      mode: replicated
      replicas: 1
      restart_policy:
        condition: any
        max_attempts: 0
        window: 0s
      update_config:
        parallelism: 2
        delay: 10s
        order: stop-first
    x-mesh:
      runtime: process
      healthcheck:
        http:
          port: 80
          path: /health
        interval: 10s
        timeout: 1s
        retries: 3
        start_period: 0s
        start_interval: 5s
      weight:
        label: node.labels.cpus
        default: 1
`;
  const read = parseManifest(written, { file: 'f' });
  expect(read.ok ? renderManifest(read.value) : read.error).toBe(written);
});

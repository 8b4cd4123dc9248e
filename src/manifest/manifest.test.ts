// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the compose-spec look like that
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ServiceSpec } from '../model/spec.ts';
import { LIMITS } from './limits.ts';
import { parseManifest, parseManifests } from './manifest.ts';
import { formatManifestError } from './manifest-error.ts';

const options = { file: 's.yaml', environment: { HOME_DIR: '/srv', EMPTY: '' } };

function specs(text: string): ServiceSpec[] {
  const result = parseManifest(text, options);
  if (!result.ok) throw new Error(result.error.map(formatManifestError).join('\n'));
  return result.value;
}

function errors(text: string): string[] {
  const result = parseManifest(text, options);
  if (result.ok) throw new Error(`accepted: ${JSON.stringify(result.value)}`);
  return result.error.map(formatManifestError);
}

/** A manifest of one service `a` with more keys, in flow style. */
const service = (keys: string) => `services: {a: {command: [x], x-mesh: {runtime: process}, ${keys}}}`;
const specOf = (keys: string): ServiceSpec => specs(service(keys))[0]!;

const defaults: ServiceSpec = {
  name: 'a',
  labels: {},
  runtime: 'process',
  command: ['x'],
  workingDir: '/',
  environment: {},
  mode: 'replicated',
  replicas: 1,
  constraints: [],
  restart: { condition: 'any', maxAttempts: 0, window: 0 },
  stopGracePeriod: 10_000,
  ports: [],
};

describe('what a service may say', () => {
  test('every default is filled in', () => {
    expect(specOf('')).toEqual(defaults);
  });

  test('a whole service', () => {
    const text = `
version: "3.8"
name: demo
x-common: &common
  labels: {team: net}
  working_dir: /tmp
services:
  web:
    <<: *common
    entrypoint: /usr/bin/env -i
    command: python3 -m http.server "80"
    user: 1000
    environment:
      - B=2
      - A=x=y
    ports: ["8080:80", "5353:53/udp", 90, {target: "70", published: "7000", protocol: TCP, name: api, mode: ingress}]
    stop_grace_period: 1m30s
    working_dir: \${HOME_DIR}
    deploy:
      replicas: 3
      labels: [tier=front]
      placement:
        constraints: [node.labels.zone!=a, NODE.Hostname == node1]
      restart_policy: {condition: on-failure, delay: 500ms, max_attempts: 3, window: 1.5s}
    x-mesh: {runtime: process}
    x-note: anything
`;
    expect(specs(text)).toEqual([
      {
        name: 'web',
        labels: { team: 'net', tier: 'front' },
        runtime: 'process',
        command: ['/usr/bin/env', '-i', 'python3', '-m', 'http.server', '80'],
        workingDir: '/srv',
        user: '1000',
        environment: { A: 'x=y', B: '2' },
        mode: 'replicated',
        replicas: 3,
        constraints: [
          { key: 'node.labels.zone', operator: '!=', value: 'a' },
          { key: 'node.hostname', operator: '==', value: 'node1' },
        ],
        restart: { condition: 'on-failure', delay: 500, maxAttempts: 3, window: 1500 },
        stopGracePeriod: 90_000,
        ports: [
          { protocol: 'udp', target: 53, published: 5353, mode: 'ingress' },
          { protocol: 'tcp', target: 70, published: 7000, mode: 'ingress' },
          { protocol: 'tcp', target: 80, published: 8080, mode: 'ingress' },
          { protocol: 'tcp', target: 90, mode: 'ingress' },
        ],
      },
    ]);
  });

  test('scalars of text fields stay as they are written', () => {
    expect(specOf('environment: {A: 1.0, B: 0x10, C: true, D: 2024-01-01, E: ""}').environment).toEqual({
      A: '1.0',
      B: '0x10',
      C: 'true',
      D: '2024-01-01',
      E: '',
    });
    expect(specs('services: {a: {command: [sleep, 60, 1e3], x-mesh: {runtime: process}}}')[0]!.command).toEqual([
      'sleep',
      '60',
      '1e3',
    ]);
  });

  test('global services take no replicas', () => {
    expect(specOf('deploy: {mode: global}').mode).toBe('global');
    expect(errors(service('deploy: {mode: global, replicas: 2}'))).toEqual([
      's.yaml:1:91: services.a.deploy.replicas: replicas do not go together with mode global; ' +
        'remove `replicas`: a global service runs one task on every node',
    ]);
  });

  test('replicas may be none, or come out of a variable', () => {
    expect(specOf('deploy: {replicas: 0}').replicas).toBe(0);
    expect(specOf('deploy: {replicas: "${N:-4}"}').replicas).toBe(4);
  });

  test('documents are merged, comments and empty documents count nothing', () => {
    const one = (name: string) => `services: {${name}: {command: x, x-mesh: {runtime: process}}}`;
    expect(specs(`# hello\n---\n${one('a')}\n---\n---\n${one('b')}\n...\n`).map(({ name }) => name)).toEqual([
      'a',
      'b',
    ]);
  });

  test('merge keys: the map itself wins, then the first merged', () => {
    const text = `
x-a: &a {environment: {A: "1"}, user: one}
x-b: &b {user: two, working_dir: /b}
services: {a: {<<: [*a, *b], command: x, environment: {B: "2"}, x-mesh: {runtime: process}}}`;
    expect(specs(text)[0]).toMatchObject({ environment: { B: '2' }, user: 'one', workingDir: '/b' });
  });
});

describe('ports', () => {
  const cases: [string, { published?: number; target: number; protocol: string }[]][] = [
    ['"80"', [{ target: 80, protocol: 'tcp' }]],
    ['":80"', [{ target: 80, protocol: 'tcp' }]],
    ['"65535:1/sctp"', [{ published: 65_535, target: 1, protocol: 'sctp' }]],
    [
      '"8000-8001:80-81/udp"',
      [
        { published: 8000, target: 80, protocol: 'udp' },
        { published: 8001, target: 81, protocol: 'udp' },
      ],
    ],
    ['{target: 80, published: 0}', [{ target: 80, protocol: 'tcp' }]],
    ['{target: 80, published: "8080", x-note: 1}', [{ published: 8080, target: 80, protocol: 'tcp' }]],
  ];
  test.each(cases)('%s', (written, wanted) => {
    expect(specOf(`ports: [${written}]`).ports).toEqual(wanted.map((port) => ({ ...port, mode: 'ingress' })));
  });

  const refused: [string, RegExp][] = [
    ['"0:80"', /published port 0 is outside 1-65535/],
    ['0', /target port 0 is outside/],
    ['"70000:80"', /published port 70000 is outside 1-65535; choose one of 1-65535$/],
    ['"80-79:80"', /published ports 80-79 end before they start; write 79-80/],
    ['"80-79"', /80-79/],
    ['"1-3:1-2"', /3 published ports for 2 target ports/],
    ['"8000-8010:80"', /11 published ports for 1 target port/],
    ['"127.0.0.1:80:80"', /one host address is not supported yet.*x-mesh/],
    ['"[::1]:80:80"', /one host address is not supported yet/],
    ['"80/icmp"', /protocol "icmp" is unknown; choose tcp, udp or sctp/],
    ['"http"', /target port "http" is not a number/],
    ['80.5', /not a number/],
    ['"1-2000:1-2000"', /2000 ports are more than the 1000/],
    ['{published: 80}', /ports\[0\]\.target: is missing; write it like `target: 80`/],
    ['{target: 80, mode: host}', /ports\[0\]\.mode: mode host is not supported yet/],
    ['{target: 80, host_ip: 10.0.0.1}', /ports\[0\]\.host_ip: .*not supported yet/],
    ['{target: 80, published: "80-90"}', /ports\[0\]\.published: 11 published ports for 1/],
    ['{target: 80-90}', /target is a range/],
    ['{target: [1]}', /target: must be a number or a text, but is a list/],
    ['{target: 80, publishd: 80}', /publishd: unknown key `publishd`; did you mean `published`\?/],
    ['[]', /must be a map, but is a list/],
    ['null', /must be a map, but is empty/],
  ];
  test.each(refused)('%s is refused', (written, message) => {
    const found = errors(service(`ports: [${written}]`));
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(message);
  });

  test('a port published twice names both places', () => {
    const text = `
services:
  a: {command: x, x-mesh: {runtime: process}, ports: ["80:1", "80:1/udp"]}
  b:
    command: x
    x-mesh: {runtime: process}
    ports:
      - 70-90:70-90
`;
    expect(errors(text)).toEqual([
      's.yaml:8:9: services.b.ports[0]: published port 80/tcp is already taken by service a at s.yaml:3:55; ' +
        'choose another port, or remove one of them',
    ]);
    expect(errors(service('ports: ["8090:80", "8090:81"]'))[0]).toMatch(/8090\/tcp is already taken by service a/);
    expect(errors(service('ports: [80, 80]'))[0]).toMatch(/automatic port for 80\/tcp is already taken/);
  });

  test('too many in one service, or in all', () => {
    expect(errors(service('ports: ["1-600:1-600", "1001-1600:1-600"]'))[0]).toMatch(
      /1200 ports are more than the 1000/,
    );
    const many = Array.from(
      { length: 66 },
      (_, n) => `s${n}: {command: x, x-mesh: {runtime: process}, ports: [1-1000]}`,
    );
    expect(errors(`services: {${many.join(', ')}}`)[0]).toMatch(/more than 65535 ports/);
  });
});

describe('errors say where, what and what to do', () => {
  const one: [string, string][] = [
    [service('helthcheck: {}'), 'services.a.helthcheck: unknown key `helthcheck`; did you mean `healthcheck`?'],
    [
      service('healthcheck: {}'),
      'services.a.healthcheck: `healthcheck` is a compose key that meshd does not support yet; ' +
        'remove it, or rename it to an `x-` key to keep it as a note',
    ],
    [
      service('restart: always'),
      'services.a.restart: `restart` is a compose key that meshd does not support yet; use `deploy.restart_policy`',
    ],
    [service('deploy: {update_config: {}}'), 'services.a.deploy.update_config: `update_config` is a compose key'],
    [
      service('deploy: {placement: {preferences: []}}'),
      'services.a.deploy.placement.preferences: `preferences` is a compose key',
    ],
    [service('zzzzzzzz: 1'), 'services.a.zzzzzzzz: unknown key `zzzzzzzz`; use one of command, entrypoint,'],
    [`networks: {}\n${service('')}`, 'networks: `networks` is a compose key that meshd does not support yet'],
    [
      'services: {a: {command: x}}',
      'services.a: does not say how it is run: images are not supported yet; add `x-mesh: {runtime: process}`',
    ],
    [
      'services: {a: {image: nginx}}',
      'services.a.image: `image` is a compose key that meshd does not support yet; run a `command` with',
    ],
    [
      'services: {a: {command: x, x-mesh: {runtime: docker}}}',
      'services.a.x-mesh.runtime: must be process, but is the text "docker"',
    ],
    [
      'services: {a: {command: x, x-mesh: {runtime: process, netwrk: 1}}}',
      'services.a.x-mesh.netwrk: unknown key `netwrk`',
    ],
    ['services: {a: {x-mesh: {runtime: process}}}', 'services.a: has no command to run; add one, such as'],
    ['services: {a: {command: [], x-mesh: {runtime: process}}}', 'services.a.command: has no command to run'],
    [
      'services: {a: {command: "x \'", x-mesh: {runtime: process}}}',
      'services.a.command: has a single quote that is not closed',
    ],
    [
      'services: {a: {command: {}, x-mesh: {runtime: process}}}',
      'services.a.command: must be a text or a list, but is a map',
    ],
    [
      'services: {a: {command: [x, ~], x-mesh: {runtime: process}}}',
      'services.a.command[1]: must be a text, but is empty',
    ],
    ['services: {a: ~}', 'services.a: must be a map, but is empty; write at least `{command:'],
    [
      'services: {"a b": {command: x, x-mesh: {runtime: process}}}',
      'services["a b"]: "a b" cannot be the name of a service',
    ],
    [
      service('deploy: {replicas: 1000000000}'),
      'services.a.deploy.replicas: 1000000000 is outside 0-10000; one service has at most 10000 tasks',
    ],
    [service('deploy: {replicas: -1}'), 'services.a.deploy.replicas: -1 is outside 0-10000; choose one of 0-10000'],
    [service('deploy: {replicas: 1.5}'), 'services.a.deploy.replicas: must be a whole number, but is the number 1.5'],
    [service('deploy: {replicas: many}'), 'services.a.deploy.replicas: must be a whole number, but is the text "many"'],
    [
      service('deploy: {mode: globl}'),
      'services.a.deploy.mode: must be one of replicated, global, but is the text "globl"; write replicated or global',
    ],
    [
      service('deploy: {placement: {constraints: [node.hostname = x]}}'),
      'services.a.deploy.placement.constraints[0]: "node.hostname = x" is not a constraint',
    ],
    [
      service('deploy: {placement: {constraints: [engine.labels.x == y]}}'),
      'services.a.deploy.placement.constraints[0]: "engine.labels.x" is not something to choose nodes by',
    ],
    [
      service('deploy: {placement: {constraints: [node.role == boss]}}'),
      'services.a.deploy.placement.constraints[0]: "boss" is not a role; use manager or worker',
    ],
    [
      service('deploy: {placement: {constraints: node.id==x}}'),
      'services.a.deploy.placement.constraints: must be a list, but is the text',
    ],
    [
      service('stop_grace_period: 10'),
      'services.a.stop_grace_period: must be a duration, but is the number 10; write a number with a unit',
    ],
    [service('stop_grace_period: 9999h'), 'services.a.stop_grace_period: 9999h is too long; choose at most 168h'],
    [
      service('environment: {A: }'),
      'services.a.environment.A: has no value, and meshd does not hand on the environment of meshctl',
    ],
    [service('environment: [A]'), 'services.a.environment[0]: has no value'],
    [service('environment: [A=1, A=2]'), 'services.a.environment[1]: A is given twice'],
    [service('environment: {"A=B": c}'), 'services.a.environment["A=B"]: "A=B" is not a name'],
    [service('working_dir: srv'), 'services.a.working_dir: "srv" is not an absolute path; start it with `/`'],
    [service('user: "a b"'), 'services.a.user: "a b" is not a user'],
    [service('environment: {A: "x\\0y"}'), 'services.a.environment.A: contains a NUL character'],
    [
      service('working_dir: $NOPE'),
      'services.a.working_dir: variable NOPE is not set; set it in the environment of meshctl',
    ],
    [service('working_dir: "${NOPE:?say where}"'), 'services.a.working_dir: variable NOPE is not set: say where'],
    [service('working_dir: "${NOPE"'), 'services.a.working_dir: `${NOPE` is not closed by `}`'],
    [service('user: a, user: b'), 'services.a.user: is written twice, first in line 1; remove one of them'],
    [service('ports: *nope'), 'services.a.ports: alias *nope has no anchor before it; define it first with &nope'],
    ['services: {}', 'declares no services; declare at least one'],
    ['', 'declares no services'],
    ['services:', 'services: must be a map, but is empty; write it like'],
    ['[]', 'a manifest is a map with the key `services`'],
    ['hello', 'a manifest is a map with the key `services`'],
    ['a: &a {b: *a}', 'a: unknown key `a`'],
    ['services: [1', 'is not valid YAML: '],
    ['services:\n\tweb: 1', 'is not valid YAML: a tab is used as indentation; indent with spaces'],
    ['services: {}\0', 'is not text but binary data; give a YAML file in UTF-8'],
    [service('user: !reset x'), 'uses a YAML tag that meshd does not know; remove the word with `!`'],
    ['['.repeat(5000), 'is nested deeper than 64 levels; close the brackets'],
    ['- '.repeat(5000), 'is nested deeper than 64 levels'],
    ['#'.repeat(LIMITS.textLength + 1), 'is larger than 1048576 characters; split it into several files'],
    [`services: {${'a: 1, '.repeat(150_000)}}`, 'has more than 250000 values; split it'],
  ];
  test.each(one)('%j', (text, wanted) => {
    const [first] = errors(text);
    expect(first?.replace(/^s\.yaml:\d+:\d+: /, '').slice(0, wanted.length)).toBe(wanted);
  });

  test('several at once, in the order of the lines, each with its own place', () => {
    const text = `servics: {}
services:
  web:
    imge: nginx
    command: x
    x-mesh: {runtime: process}
    ports:
      - 80:80
      - "70000:1"
    deploy:
      replicas: 10001
      placment: {}
  Web!:
    command: [x]
`;
    expect(errors(text).map((line) => line.split(' ').slice(0, 2).join(' '))).toEqual([
      's.yaml:1:1: servics:',
      's.yaml:4:5: services.web.imge:',
      's.yaml:9:9: services.web.ports[1]:',
      's.yaml:11:17: services.web.deploy.replicas:',
      's.yaml:12:7: services.web.deploy.placment:',
      's.yaml:13:3: services["Web!"]:',
      's.yaml:13:3: services["Web!"]:',
    ]);
  });

  test('at most 20', () => {
    const keys = Array.from({ length: 50 }, (_, n) => `zz${n}: 1`).join(', ');
    expect(errors(service(keys))).toHaveLength(LIMITS.errors);
  });

  test('an anchor bomb is told by its cause, and at once', () => {
    const names = 'bcdefghij'.split('');
    const rungs = names.map((name, at) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghij'[at]}`).join(',')}]`);
    const found = errors(`a: &a [x,x,x,x,x,x,x,x,x]\n${rungs.join('\n')}\nservices: {}\n`);
    expect(found.join('\n')).toMatch(/expands to more than 250000 values; use fewer aliases/);
    const wide = `x-a: &a ${'y'.repeat(100_000)}\nx-b: [${Array(100).fill('*a').join(',')}]\n${service('')}`;
    expect(errors(wide)[0]).toMatch(/expands to more than 2097152 characters/);
  });

  test('services and ports are unique across documents and files, and files keep their order', () => {
    const text = 'services: {a: {command: x, x-mesh: {runtime: process}, ports: ["1:1"]}}';
    const other = 'services: {b: {command: x, x-mesh: {runtime: process}, ports: ["1:1"]}}';
    const result = parseManifests([
      { file: 'z.yaml', text: `${text}\n---\n${text}` },
      { file: 'b.yaml', text: other },
      { file: 'c.yaml', text: 'services: {}' },
    ]);
    expect(result.ok ? [] : result.error.map((error) => `${error.file}:${error.line} ${error.message}`)).toEqual([
      'z.yaml:3 service a is declared twice, first at z.yaml:1:12',
      'b.yaml:1 published port 1/tcp is already taken by service a at z.yaml:1:64',
      'c.yaml:1 declares no services',
    ]);
  });

  test('names of Object.prototype are ordinary names', () => {
    const [spec] = specs(
      'services: {constructor: {command: x, x-mesh: {runtime: process}, labels: {toString: a, hasOwnProperty: b}}}',
    );
    expect(spec).toMatchObject({ name: 'constructor', labels: { hasOwnProperty: 'b' } });
    expect(errors(service('labels: {__proto__: a}'))[0]).toMatch(/key here is not a plain word/);
    expect(errors(service('valueOf: 1'))[0]).toMatch(/unknown key `valueOf`/);
  });
});

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
    fc.assert(fc.property(fc.string({ maxLength: 300, unit: 'binary' }), total), { numRuns: 500 });
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
      { numRuns: 1500 },
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
      { numRuns: 1500 },
    );
  });

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
      { numRuns: 500 },
    );
  });
});

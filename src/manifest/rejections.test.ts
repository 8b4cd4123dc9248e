// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the compose-spec look like that
import { describe, expect, test } from 'vitest';
import { LIMITS } from './limits.ts';
import { parseManifests } from './manifest.ts';
import { errors, service, specs } from './test-kit.ts';

describe('errors have a position, a message and a remedy', () => {
  const one: [string, string][] = [
    [service('helthcheck: {}'), 'services.a.helthcheck: unknown key `helthcheck`; did you mean `healthcheck`?'],
    [
      service('dns: {}'),
      'services.a.dns: `dns` is a compose key that meshd does not support yet; ' +
        'remove it, or rename it to an `x-` key to keep it as a note',
    ],
    [
      service('restart: always'),
      'services.a.restart: `restart` is a compose key that meshd does not support yet; use `deploy.restart_policy`',
    ],
    [service('deploy: {rollback_config: {}}'), 'services.a.deploy.rollback_config: `rollback_config` is a compose key'],
    ...['failure_action: pause', 'monitor: 5s', 'max_failure_ratio: 0.1'].map((key): [string, string] => {
      const name = key.split(':')[0]!;
      return [
        service(`deploy: {update_config: {${key}}}`),
        `services.a.deploy.update_config.${name}: \`${name}\` is a compose key that meshd does not support yet`,
      ];
    }),
    [
      service('deploy: {update_config: {order: both}}'),
      'services.a.deploy.update_config.order: must be one of start-first, stop-first, but is the text "both"',
    ],
    [
      service('deploy: {placement: {preferences: []}}'),
      'services.a.deploy.placement.preferences: `preferences` is a compose key',
    ],
    [service('zzzzzzzz: 1'), 'services.a.zzzzzzzz: unknown key `zzzzzzzz`; use one of command, entrypoint,'],
    [`networks: {a: {}}\n${service('')}`, 'networks: `networks` is a compose key that meshd does not support yet'],
    [`networks: []\n${service('')}`, 'networks: `networks` is a compose key that meshd does not support yet'],
    [
      `x-mesh: {runtime: process}\n${service('')}`,
      'x-mesh: `x-mesh` belongs inside a service; move it to each service, beside `command`; use another name for an anchor',
    ],
    [
      service('deploy: {endpoint_mode: dnsrr}'),
      'services.a.deploy.endpoint_mode: must be vip, but is the text "dnsrr"; write vip',
    ],
    [
      'services: {a: {command: x, x-mesh: {runtime: process, zzzzzz: 1}}}',
      'services.a.x-mesh.zzzzzz: unknown key `zzzzzz`; use one of runtime, healthcheck, weight, ready, or remove it',
    ],
    [
      'services: {a: {command: x}}',
      'services.a: has no runtime; images are not supported yet; add `x-mesh: {runtime: process}`',
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
      'services.a.command: must be text or a list, but is a map',
    ],
    [
      'services: {a: {command: [x, ~], x-mesh: {runtime: process}}}',
      'services.a.command[1]: must be text, but is empty',
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
      'services.a.deploy.placement.constraints[0]: "engine.labels.x" is not a constraint key',
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
      'services.a.environment.A: has no value; meshctl does not pass on its own environment',
    ],
    [
      service('environment: [A]'),
      'services.a.environment[0]: has no value; meshctl does not pass on its own environment; ' +
        'set a value, or write `A=${A}` to use the value from the environment of meshctl',
    ],
    [service('labels: {"a b": c}'), 'services.a.labels["a b"]: "a b" is not a valid name'],
    [
      service(`labels: {a: ${'x'.repeat(LIMITS.value + 1)}}`),
      `services.a.labels.a: is longer than ${LIMITS.value} bytes`,
    ],
    [
      service(`command: [${'x,'.repeat(LIMITS.arguments + 1)}]`).replace('command: [x], ', ''),
      `services.a.command: the command has more than ${LIMITS.arguments} arguments`,
    ],
    [
      service(`environment: {${Array.from({ length: LIMITS.entries + 1 }, (_, n) => `A${n}: b`).join()}}`),
      `services.a.environment: has more than ${LIMITS.entries} entries`,
    ],
    [service('environment: [A=1, A=2]'), 'services.a.environment[1]: A is declared twice'],
    [service('environment: {"A=B": c}'), 'services.a.environment["A=B"]: "A=B" is not a valid name'],
    [service('working_dir: srv'), 'services.a.working_dir: "srv" is not an absolute path; start it with `/`'],
    [service('user: "a b"'), 'services.a.user: "a b" is not a user'],
    [service('cap_add: [NET_AMIN]'), 'services.a.cap_add[0]: "NET_AMIN" is not a capability; did you mean NET_ADMIN?'],
    [
      service('cap_drop: [CHOWN, magic]'),
      'services.a.cap_drop[1]: "magic" is not a capability; use a name of capabilities(7), such as NET_ADMIN, or ALL',
    ],
    [service('cap_add: NET_ADMIN'), 'services.a.cap_add: must be a list'],
    [
      service('cap_add: [CHOWN], cap_drop: [KILL, cap_chown]'),
      'services.a.cap_drop[1]: CHOWN is in `cap_add` as well; remove one of them',
    ],
    [service('privileged: maybe'), 'services.a.privileged: must be true or false, but is the text "maybe"'],
    [
      service('privileged: true, cap_drop: [KILL]'),
      'services.a.privileged: gives every capability, which `cap_add` and `cap_drop` contradict; remove `privileged`',
    ],
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
    ['services: {}\0', 'is binary data; use a YAML file in UTF-8'],
    [service('user: !reset x'), 'uses an unknown YAML tag; remove the tag (`!…`)'],
    ['['.repeat(5000), 'is nested deeper than 64 levels; close the brackets'],
    ['- '.repeat(5000), 'is nested deeper than 64 levels'],
    ['#'.repeat(LIMITS.textLength + 1), 'is larger than 1048576 characters; split it into several files'],
    [`services: {${'a: 1, '.repeat(150_000)}}`, 'has more than 250000 values; split it'],
  ];
  test.each(one.map(([text, expected]) => ({ text, expected })))('$expected', ({ text, expected }) => {
    const [first] = errors(text);
    expect(first?.replace(/^s\.yaml:\d+:\d+: /, '').slice(0, expected.length)).toBe(expected);
  });

  test('keys of other tools that have no effect are accepted', () => {
    expect(specs(`networks: {}\n${service('deploy: {endpoint_mode: vip}')}`)).toEqual(specs(service('')));
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

  test('an anchor bomb is rejected at once with its cause', () => {
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
      'b.yaml:1 published port 1/tcp is already published by service a at z.yaml:1:64',
      'c.yaml:1 declares no services',
    ]);
  });

  test('names of Object.prototype are ordinary names', () => {
    const [spec] = specs(
      'services: {constructor: {command: x, x-mesh: {runtime: process}, labels: {toString: a, hasOwnProperty: b}}}',
    );
    expect(spec).toMatchObject({ name: 'constructor', labels: { hasOwnProperty: 'b' } });
    expect(errors(service('labels: {__proto__: a}'))[0]).toMatch(/a key is not text/);
    expect(errors(service('valueOf: 1'))[0]).toMatch(/unknown key `valueOf`/);
  });
});

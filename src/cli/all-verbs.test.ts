import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { beforeEach, describe, expect, test } from 'vitest';
import type { TraceReply } from '../rpc/messages.ts';
import { differences, readSections } from './documented-json.test-data.ts';
import { makeNode, makePort, makeService, makeSpec, makeTask } from './fake-meshd.test-data.ts';
import { buildProgram } from './program.ts';
import { manifest, setUp } from './test-setup.test-data.ts';

const cli = setUp();
const sections = readSections(await readFile(new URL('../../docs/commands.md', import.meta.url), 'utf8'));

const verbsOf = (command: Command, path: string[]): string[] =>
  command.commands.flatMap((inner) =>
    inner.commands.length > 0 ? verbsOf(inner, [...path, inner.name()]) : [[...path, inner.name()].join(' ')],
  );
/** `completion` prints a script in every format. */
const verbs = verbsOf(
  buildProgram(
    async () => {},
    {},
    () => {},
  ),
  [],
).filter((verb) => verb !== 'completion');

/** Arguments with which each verb prints at least one row; FILE is a manifest. */
const ARGUMENTS: Record<string, string[]> = {
  apply: ['FILE'],
  config: ['FILE'],
  plan: ['FILE'],
  diff: ['node2'],
  trace: ['198.51.100.7', 'node1:8080'],
  history: [],
  doctor: ['--verbose'],
  status: [],
  'service ls': [],
  'service ps': ['web'],
  'service inspect': ['web'],
  'service update': ['--force', '-d', 'web'],
  'service scale': ['-d', 'web=2'],
  'service rm': ['web'],
  'port ls': [],
  'node ls': [],
  'node inspect': ['node1'],
  'node update': ['--label-add', 'a=b', 'node1'],
  'node rm': ['node2'],
  version: [],
};

/** Every text that a node or a task reports contains `reported`. */
function fill(reported: string): void {
  const { meshd } = cli;
  meshd.nodes = [1, 2].map((number) =>
    makeNode({
      id: `n${number}`,
      name: `node${number}`,
      number,
      underlay: `192.0.2.${number}`,
      labels: { zone: 'a' },
      agentVersion: `1${reported}`,
      kernelRelease: `6.1${reported}`,
      conditions: [`no ip_vs${reported}`],
    }),
  );
  const degraded = [{ nodeId: 'n2', nodeName: 'node2', kind: 'taken' as const, message: `nginx${reported}` }];
  const spec = makeSpec({
    user: 'www-data',
    labels: { team: 'net' },
    environment: { A: 'b' },
    constraints: [{ key: 'node.role', operator: '==', value: 'worker' }],
    restart: { condition: 'any', delay: 5, maxAttempts: 0, window: 0 },
    update: { parallelism: 1, delay: 0, order: 'stop-first' },
    health: {
      probe: { kind: 'http', port: 80, path: '/' },
      interval: 1000,
      timeout: 1000,
      retries: 3,
      startPeriod: 0,
      startInterval: 1000,
    },
    weight: { label: 'cpus', default: 1 },
    ports: [
      makePort({
        scheduler: 'sh',
        schedulerFlags: ['sh-port'],
        fallback: 'lc',
        persistence: { timeout: 1000, prefix: { inet: 24, inet6: 64 } },
        idleTimeout: 1000,
        policy: 'local',
        nodes: [{ key: 'node.role', operator: '==', value: 'worker' }],
        addresses: ['192.0.2.1/32'],
        allowFrom: ['192.0.2.0/24'],
      }),
      makePort({ mode: 'host', published: undefined, target: 81 }),
    ],
  });
  meshd.picked = [{ taskId: 'web1', nodeName: 'node1', published: 50_000 }];
  meshd.services = [makeService({ spec, degraded })];
  meshd.tasks = [
    makeTask({
      ports: spec.ports,
      status: {
        state: 'failed',
        message: `why${reported}`,
        error: `exit${reported}`,
        since: 1,
        ports: [],
        exitCode: 3,
      },
    }),
    makeTask({ id: 'aaaaaaaaaaaa', slot: 2, ports: spec.ports }),
  ];
  meshd.warnings = [`a program${reported} listens`];
  meshd.info.conditions = [`no ip_vs${reported}`];
}

/** Answers of the manager and of the nodes to what the verbs ask for. */
function fillAnswers(reported: string): void {
  const { meshd } = cli;
  const hop = { node: 'node1', netns: 'host', object: `-j DNAT${reported}`, effect: `DNAT${reported}` };
  const lost: TraceReply['paths'][number] = {
    address: '10.252.2.5',
    port: 80,
    weight: 1,
    taskId: 'aaaaaaaaaaaa',
    outcome: 'lost',
    reason: `no route${reported}`,
    hops: [{ ...hop, verdict: 'lost' }],
  };
  meshd.trace = {
    client: '198.51.100.7',
    destination: '192.0.2.1',
    nodes: [
      { nodeId: 'n1', nodeName: `node1${reported}`, revision: 7, error: '' },
      { nodeId: 'n2', nodeName: 'node2', revision: 0, error: `gone${reported}` },
    ],
    outcome: 'lost',
    reason: `no route${reported}`,
    hops: [{ ...hop, verdict: 'pass' }],
    paths: [lost, { ...lost, task: makeTask({ id: 'aaaaaaaaaaaa', nodeName: `node2${reported}` }) }],
  };
  const finding = {
    level: 'error' as const,
    code: 'ForwardingDisabled',
    params: { netns: `host${reported}` },
    check: 'sysctl',
  };
  meshd.checkups = [1, 2].map((number) => ({
    nodeId: `n${number}`,
    nodeName: `node${number}${reported}`,
    findings: [{ ...finding, what: `what${reported}`, remedy: `run${reported}` }],
    paths: [{ node: `node${3 - number}${reported}`, address: '192.0.2.9', small: 1 }],
  }));
  const change = {
    at: 1000,
    took: 1,
    why: 'repair',
    revision: 1,
    wrong: [`wrong${reported}`],
    by: [`ip${reported}`],
    services: ['web'],
    steps: [`ip link${reported}`],
    count: 1,
    failures: [`EBUSY${reported}`],
  };
  meshd.answers = [1, 2].map((number) => ({
    nodeId: `n${number}`,
    nodeName: `node${number}`,
    body: Buffer.from(JSON.stringify({ changes: [change] })),
    error: '',
  }));
}

async function runVerb(verb: string, reported: string, ...options: string[]) {
  const given = ARGUMENTS[verb];
  if (given === undefined) throw new Error(`add arguments of ${verb} to ARGUMENTS in this test`);
  const path = await cli.file('a.yaml', manifest());
  fillAnswers(reported);
  const words = given.map((word) => (word === 'FILE' ? path : word));
  return cli.meshctl([...verb.split(' '), ...words, ...options]);
}

describe('JSON of every verb', () => {
  beforeEach(() => fill(''));

  test.each(verbs)('%s: snake_case keys as docs/commands.md documents them', async (verb) => {
    const { stdout, stderr } = await runVerb(verb, '', '--format', 'json');
    const rows = JSON.parse(stdout) as unknown[];
    expect(rows.length, stderr).toBeGreaterThan(0);
    expect(rows.flatMap((row) => differences(row, verb, sections))).toEqual([]);
  });

  test('every documented key is snake_case', () => {
    for (const [name, section] of sections) {
      for (const key of section.keys()) expect(key, name).toMatch(/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/);
    }
  });

  test('an undocumented verb, key or type is found', () => {
    expect(differences({}, 'service restart', sections)).toEqual([expect.stringMatching(/does not document/)]);
    expect(differences({ id: 'a', name: 'b', exitcode: 1 }, 'service rm', sections)).toEqual([
      'service rm.exitcode is not documented',
    ]);
    expect(differences({ id: 1 }, 'service rm', sections)).toEqual([
      'service rm.name is documented but missing',
      'service rm.id is not of type text: 1',
    ]);
  });
});

/** Clears the screen, sets the window title, starts a new line, the C1 form of CSI, and reverses the order of letters. */
const ESCAPES = '\x1b[2J\x1b]0;title\x07\r\n\x9b31m\u2028\u202e\u2066';

describe('text of nodes and tasks', () => {
  beforeEach(() => fill(ESCAPES));

  test.each(verbs)('%s: is printed without control characters', async (verb) => {
    for (const format of ['table', 'json']) {
      fill(ESCAPES); // the run before may have removed a service
      const { stdout, stderr } = await runVerb(verb, ESCAPES, '--format', format);
      expect(stdout).not.toBe('');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be printed
      expect(stdout + stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/);
      expect(stdout + stderr).not.toMatch(/^.?31m/m);
    }
  });

  test('JSON keeps the text', async () => {
    const tasks = JSON.parse((await runVerb('service ps', ESCAPES, '--format', 'json')).stdout) as { error: string }[];
    expect(tasks.map(({ error }) => error)).toContain(`exit${ESCAPES}`);
  });

  test('an error of a node stays one line', async () => {
    fillAnswers('');
    cli.meshd.answers[0]!.error = `gone${ESCAPES}meshctl: forged`;
    const { stderr } = await cli.meshctl(['history']);
    expect(stderr).toBe('meshctl: node1 did not answer: gone [2J ]0;title 31m meshctl: forged\n');
  });
});

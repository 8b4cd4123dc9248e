import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { parseMeshd } from './meshd-options.ts';

let output = '';
beforeEach(() => {
  output = '';
  const hear = (text: unknown) => {
    output += String(text);
    return true;
  };
  vi.spyOn(process.stderr, 'write').mockImplementation(hear);
  vi.spyOn(process.stdout, 'write').mockImplementation(hear);
});
afterEach(() => vi.restoreAllMocks());

it('runs both roles with defaults', () => {
  expect(parseMeshd([])).toMatchObject({
    verb: 'run',
    options: {
      roles: ['manager', 'agent'],
      listen: undefined,
      healthListen: '[::]:2378',
      join: [],
      stateDir: '/var/lib/meshd',
      socket: '/run/meshd/meshd.sock',
      agentSocket: '/run/meshd/agent.sock',
      labels: {},
      insecureDev: false,
      families: undefined,
      logLevel: 'info',
    },
  });
});

it.each([
  ['--families ipv4', ['inet']],
  ['--families ipv6', ['inet6']],
  ['--families ipv6,ipv4', ['inet', 'inet6']],
  ['--ipv6', ['inet', 'inet6']],
  ['--ipv6 --families ipv4,ipv6', ['inet', 'inet6']],
  ['--families ipv4 --ingress-subnet 10.9.0.0/16', ['inet']],
])('accepts the families of a cluster: %s', (line, families) => {
  expect(parseMeshd(line.split(' '))).toMatchObject({ verb: 'run', options: { families } });
});

it.each(['--families ipv5', '--families ', '--families ipv6 --ingress-subnet 10.9.0.0/16', '--ipv6 --families ipv6'])(
  'refuses %s',
  (line) => {
    expect(parseMeshd(line.split(' '))).toEqual({ verb: 'exit', status: 2 });
    expect(output).not.toBe('');
  },
);

it('accepts an agent with several managers and labels', () => {
  const args =
    '--role agent --join 10.0.0.1:2377,[fd00::1]:2377 --join b:1 --name n1 --label example.com/zone=a --label x=a=b';
  expect(parseMeshd(args.split(' '))).toMatchObject({
    verb: 'run',
    options: {
      roles: ['agent'],
      join: ['10.0.0.1:2377', '[fd00::1]:2377', 'b:1'],
      name: 'n1',
      labels: { 'example.com/zone': 'a', x: 'a=b' },
    },
  });
});

it.each([
  ['', 'inside'],
  ['--fast-path full', 'full'],
  ['--fast-path off', 'off'],
])('fast path: %s', (line, mode) => {
  expect(parseMeshd(line.split(' ').filter(Boolean))).toMatchObject({ options: { fastPath: mode } });
  expect(output).toBe('');
});

it('accepts the old name of --fast-path with a warning, but not together with the new one', () => {
  expect(parseMeshd(['--shortcut', 'full'])).toMatchObject({ options: { fastPath: 'full' } });
  expect(output).toBe('meshd: warning: --shortcut is deprecated; use --fast-path\n');
  expect(parseMeshd(['--shortcut', 'full', '--fast-path', 'off'])).toEqual({ verb: 'exit', status: 2 });
});

it('does not document the old name of --fast-path', () => {
  parseMeshd(['--help']);
  expect(output).toContain('--fast-path <mode>');
  expect(output).not.toContain('shortcut');
});

it('accepts another address for the health endpoint, or none', () => {
  expect(parseMeshd(['--health-listen', '127.0.0.1:80'])).toMatchObject({ options: { healthListen: '127.0.0.1:80' } });
  expect(parseMeshd(['--health-listen', 'off'])).toMatchObject({ options: { healthListen: undefined } });
});

it('accepts reset, with options before or after it', () => {
  expect(parseMeshd(['reset', '--force', '--state-dir', '/x'])).toMatchObject({
    verb: 'reset',
    options: { stateDir: '/x', force: true, purge: false },
  });
  expect(parseMeshd(['--state-dir', '/x', 'reset'])).toMatchObject({ verb: 'reset', options: { stateDir: '/x' } });
});

it.each([
  ['--role agent', 'requires --join'],
  ['--join 10.0.0.1:2377', 'use it with --role agent'],
  ['--role worker', 'manager, agent or manager,agent'],
  ['--health-listen 2378', 'HOST:PORT'],
  ['--role agent --join fd00::1', 'HOST:PORT'],
  ['--role agent --join 10.0.0.1:', 'HOST:PORT'],
  ['--role agent --join 10.0.0.1:70000', 'HOST:PORT'],
  ['--listen fd00::1:2377', 'HOST:PORT'],
  ['--label zone', 'KEY=VALUE'],
  ['--name a/b', 'Letters'],
  ['--log-level loud', 'debug'],
  ['--rol agent', 'Did you mean --role'],
  ['start', 'too many arguments'],
  ['reset now', 'too many arguments'],
])('refuses %s with status 2', (args, words) => {
  expect(parseMeshd(args.split(' '))).toEqual({ verb: 'exit', status: 2 });
  expect(output).toContain(words);
  expect(output).toMatch(/^meshd: (?!error)/);
});

it.each(['--version', '-v'])('prints its version for %s', (flag) => {
  expect(parseMeshd([flag])).toEqual({ verb: 'exit', status: 0 });
  expect(output).toBe('0.0.0-test\n');
});

it('shows defaults in command line syntax', () => {
  parseMeshd(['--help']);
  expect(output).toContain('(default: manager,agent)');
  expect(output).not.toMatch(/default: [[{]/);
});

it('accepts a manager without its port', () => {
  expect(parseMeshd(['--role', 'agent', '--join', 'node1, 10.0.0.1,[fd00::1],b:1'])).toMatchObject({
    options: { join: ['node1:2377', '10.0.0.1:2377', '[fd00::1]:2377', 'b:1'] },
  });
});

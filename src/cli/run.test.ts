import { execFileSync } from 'node:child_process';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { buildProgram } from './program.ts';
import { runMeshctl } from './run.ts';
import { fakeIo } from './test-setup.test-data.ts';
import { completion } from './verbs/completion.ts';

async function meshctl(...args: string[]) {
  const io = fakeIo();
  const status = await runMeshctl(args, io);
  return { status, stdout: io.stdout, stderr: io.stderr };
}

const program = buildProgram(
  async () => {},
  {},
  () => {},
);
const everyCommand = (command: Command, path: string[] = []): string[][] => [
  path,
  ...command.commands.flatMap((inner) => everyCommand(inner, [...path, inner.name()])),
];

describe('arguments', () => {
  test.each([
    [['servce', 'ls'], /^meshctl: unknown command 'servce' \(Did you mean service\?\)\nSee `meshctl --help`\.\n$/],
    [['ps'], /^meshctl: unknown command 'ps' \(Did you mean `meshctl service ps`\?\)\n/],
    [['ls'], /Did you mean `meshctl service ls` or `meshctl port ls` or `meshctl node ls`\?/],
    [['update', 'web'], /Did you mean `meshctl apply FILE` or `meshctl service update` or `meshctl node update`\?/],
    [['service', 'create'], /Did you mean `meshctl apply FILE`\?/],
    [['service', 'scael', 'a=1'], /Did you mean scale\?/],
    [['service', 'ls', '--quite'], /unknown option '--quite' \(Did you mean --quiet\?\)/],
    [['apply'], /missing required argument 'file'/],
    [['service', 'ps'], /missing required argument 'service'/],
    [['service', 'ls', 'web'], /too many arguments/],
    [['service', 'ls', '--format', 'xml'], /Allowed choices are table, json/],
    [['service', 'scale', 'web'], /"web" is not SERVICE=N; use the form web=5/],
    [['service', 'scale', 'web=-1'], /is not SERVICE=N/],
    [['service', 'scale', 'web=99999'], /exceed the maximum of 10000/],
    [['service', 'scale', 'web=1', 'web=2'], /web is specified twice/],
    [['service', 'update', 'web'], /nothing to change; use --publish-add PORT, --publish-rm PORT, --force or/],
    [['service', 'update', '--image', 'nginx', 'web'], /unknown option '--image'/],
    [['service', 'update', '--replicas', 'many', 'web'], /--replicas "many" is not a number of replicas; use 0-/],
    [['service', 'update', '--replicas', '10001', 'web'], /use 0-10000/],
    [
      ['service', 'update', '--publish-add', '80:', 'web'],
      /--publish-add "80:": target port "" is not a number; write/,
    ],
    [['service', 'update', '--publish-add', 'target=80,mode=hots', 'web'], /mode "hots" is unknown; choose ingress or/],
    [['service', 'update', '--publish-add', 'published=80', 'web'], /has no target port; add/],
    [
      ['service', 'update', '--publish-add', 'target=80,policy=local', 'web'],
      /"policy" is not a key of a port; use target=/,
    ],
    [['service', 'update', '--publish-add', 'target=80,udp', 'web'], /"udp" is not KEY=VALUE/],
    [['service', 'update', '--publish-rm', '8080:80', 'web'], /specifies a published port, but .*; use 80, 80\/udp/],
    [['service', 'update', '--publish-rm', 'http', 'web'], /target port "http" is not a number/],
    [['port', 'ls', 'web'], /too many arguments/],
    [['node', 'update', '--label-add', 'a b=c', 'n'], /"a b=c" is not a label; use the form zone=a/],
    [['node', 'update', '--availability', 'gone', 'n'], /Allowed choices are active, pause, drain/],
    [['apply', '--timeout', 'soon', 'x'], /Use a duration such as 90s or 5m/],
    [['completion', 'tcsh'], /Allowed choices are bash, zsh, fish/],
    [['service'], /^Usage: meshctl service/],
  ])('%j is usage: status 2', async (args, message) => {
    const { status, stdout, stderr } = await meshctl(...args);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(message);
  });

  test('help and version are no errors', async () => {
    for (const args of [[], ['--help'], ['help'], ['help', 'apply'], ['service', '-h']]) {
      expect(await meshctl(...args)).toMatchObject({
        status: 0,
        stderr: '',
        stdout: expect.stringMatching(/^Usage: meshctl/),
      });
    }
    expect(await meshctl('--version')).toMatchObject({ status: 0, stdout: '0.0.0-test\n' });
  });

  test.each(everyCommand(program).map((path) => [path]))(
    '%j: its help has an example that begins with the command',
    async (path) => {
      const { stdout } = await meshctl(...path, '--help');
      expect(stdout.split(/Examples?:\n/)[1]).toContain(['meshctl', ...path].join(' '));
    },
  );
});

describe('completion', () => {
  /** What bash would offer after these words. */
  function offered(...words: string[]): string[] {
    const script = `${completion(program, 'bash')}
COMP_WORDS=(meshctl ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}
_meshctl; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).split('\n').filter(Boolean);
  }

  test('bash', () => {
    expect(offered('ser')).toEqual(['service']);
    expect(offered('service', 's')).toEqual(['scale']);
    expect(offered('service', 'update', '--publish')).toEqual(['--publish-add', '--publish-rm']);
    expect(offered('port', '')).toEqual(['ls', '--help']);
    expect(offered('--format', 'json', 'node', 'up')).toEqual(['update']);
    expect(offered('service', 'ls', '--q')).toEqual(['--quiet']);
    expect(offered('service', 'ls', '--fo')).toEqual(['--format']);
    expect(offered('apply', 'package.j')).toEqual(['package.json']);
    expect(offered('completion', '')).toEqual(['bash', 'zsh', 'fish', '--help']);
  });

  test('every verb is in every script', () => {
    for (const shell of ['bash', 'zsh', 'fish'] as const) {
      const script = completion(program, shell);
      for (const [verb] of everyCommand(program)
        .slice(1)
        .map((path) => path.slice(-1)))
        expect(script).toContain(verb);
    }
    expect(completion(program, 'zsh')).toMatch(/^autoload -U \+X bashcompinit/);
    expect(completion(program, 'fish')).toContain(
      'complete -c meshctl -n "__fish_seen_subcommand_from service; and not __fish_seen_subcommand_from ls ps inspect update scale rm" -a "ls ps inspect update scale rm"',
    );
  });
});

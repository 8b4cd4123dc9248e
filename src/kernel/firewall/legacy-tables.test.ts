import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { createNetns, deleteNetns } from '../../../native/index.ts';
import { hashLegacyTables } from './legacy-tables.ts';

it('the stamp of legacy tables changes with their rules, and with nothing else', () => {
  const name = `mlt${process.pid.toString(36)}`;
  const path = `/run/netns/${name}`;
  createNetns(path);
  const run = (...command: string[]) => execFileSync('ip', ['netns', 'exec', name, ...command], { stdio: 'ignore' });
  const stamps = () => [hashLegacyTables(path, 'inet'), hashLegacyTables(path, 'inet6')];
  try {
    const seen = [stamps()];
    for (const tool of ['iptables-legacy', 'ip6tables-legacy']) {
      run(tool, '-t', 'mangle', '-A', 'OUTPUT', '-p', 'udp', '--dport', '9', '-j', 'MARK', '--set-mark', '1');
      seen.push(stamps());
      run(tool, '-t', 'mangle', '-R', 'OUTPUT', '1', '-p', 'udp', '--dport', '9', '-j', 'MARK', '--set-mark', '2');
      seen.push(stamps());
    }
    expect(new Set(seen.map(([inet]) => inet)).size).toBe(3);
    expect(new Set(seen.map(([, inet6]) => inet6)).size).toBe(3);
    expect(seen.flat()).not.toContain(undefined);
    run('ip', 'link', 'set', 'lo', 'up');
    run('bash', '-c', 'echo > /dev/udp/127.0.0.1/9');
    expect(stamps()).toEqual(seen.at(-1));
  } finally {
    deleteNetns(path);
  }
});

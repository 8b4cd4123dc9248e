import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { specs } from '../manifest/test-kit.ts';
import { connectControl } from '../rpc/client.ts';

// What an unprivileged user of a node can reach of a real daemon, which runs as root with the group meshd.

/** Each test starts a whole daemon. */
vi.setConfig({ testTimeout: 120_000 });

const OTHER_UID = 65_534;
/** Its gid in the /etc/group of these daemons. */
const GROUP = 54_321;
const SECRET = 'wrnSbXkPq7';

const otherUser = ['setpriv', `--reuid=${OTHER_UID}`, `--regid=${OTHER_UID}`, '--clear-groups'];
const member = ['setpriv', `--reuid=${OTHER_UID}`, `--regid=${OTHER_UID}`, `--groups=${GROUP}`];
const rootOfUserNamespace = [...otherUser, 'unshare', '--user', '--map-root-user'];

let directory: string;
const ends: (() => unknown)[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'closed-'));
  chmodSync(directory, 0o755);
  writeFileSync(join(directory, 'group'), `${readFileSync('/etc/group', 'utf8')}meshd:x:${GROUP}:\n`);
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  rmSync(directory, { recursive: true, force: true });
});

const stateDir = () => join(directory, 'state');
const socket = () => join(directory, 'run/meshd.sock');
const agentSocket = () => join(directory, 'run/agent.sock');

/** A manager, in a mount namespace where the group meshd exists; its standard error once it is ready or has ended. */
async function startManager(
  options: { flags?: string[]; umask?: string } = {},
): Promise<{ daemon: ChildProcess; output: string }> {
  const meshd = [process.execPath, join(import.meta.dirname, 'meshd.ts'), '--role', 'manager', '--advertise'];
  const flags = [underlay(), '--state-dir', stateDir(), '--socket', socket(), ...(options.flags ?? [])];
  const script = `umask ${options.umask ?? '022'}; mount --bind ${directory}/group /etc/group; exec "$@"`;
  const env = { ...process.env, MESHD_TEST_SECRET: SECRET };
  const daemon = spawn('unshare', ['--mount', 'sh', '-c', script, 'sh', ...meshd, ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env,
  });
  const ended = new Promise<void>((resolve) => daemon.once('close', () => resolve()));
  ends.push(() => {
    daemon.kill('SIGKILL');
    return ended;
  });
  let output = '';
  await new Promise<void>((resolve) => {
    daemon.stderr!.setEncoding('utf8').on('data', (text) => {
      output += text;
      if (output.includes('meshd is ready')) resolve();
    });
    void ended.then(resolve);
  });
  return { daemon, output };
}

/** An address that `--advertise` accepts. */
function underlay(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return addresses.find(({ internal, family }) => !internal && family === 'IPv4')!.address;
}

/** A command as another user; standard output and error together. */
function run(identity: readonly string[], ...command: string[]): string {
  const [file = '', ...args] = [...identity, ...command];
  const { stdout, stderr } = spawnSync(file, args, { encoding: 'utf8' });
  return stdout + stderr;
}

function call(identity: readonly string[], rpc: string, request: object = {}): string {
  const url = `http://meshd/meshd.v1.${rpc}`;
  const content = ['-H', 'content-type: application/json', '-d', JSON.stringify(request)];
  return run(identity, 'curl', '-sS', '--unix-socket', socket(), ...content, url);
}

function openSession(identity: readonly string[]): string {
  const grpc = ['--http2-prior-knowledge', '-H', 'content-type: application/grpc', '-H', 'te: trailers'];
  const url = 'http://meshd/meshd.v1.Dispatch/Session';
  const flags = ['-sS', '-D', '-', '--unix-socket', agentSocket(), '--data-binary', '@/dev/null'];
  return decodeURIComponent(run(identity, 'curl', ...flags, ...grpc, url));
}

/** Of the directory of the sockets, and of both. */
function socketModes(): string[] {
  return [join(directory, 'run'), socket(), agentSocket()].map((path) => (statSync(path).mode & 0o7777).toString(8));
}

/** Addresses where a process listens for TCP connections or receives UDP. */
function listeners({ pid }: ChildProcess): string[] {
  const { stdout } = spawnSync('ss', ['-Htulnp'], { encoding: 'utf8' });
  return stdout.split('\n').filter((line) => line.includes(`pid=${pid},`));
}

describe('the sockets of a manager', () => {
  test('serve root and members of the group, and refuse any other user, whatever the file system permits', async () => {
    await startManager({ umask: '077' });
    expect(socketModes()).toEqual(['755', '660', '600']);
    const refusal = (rpc: string) =>
      `user ${OTHER_UID} may not call meshd.v1.${rpc}: run it on the node as root or as a member of the group meshd`;
    for (const rpc of ['Control/Status', 'Local/Info']) {
      expect(call([], rpc)).toContain('"version"');
      expect(call(member, rpc)).toContain('"version"');
      for (const other of [otherUser, rootOfUserNamespace]) expect(call(other, rpc)).toMatch(/^curl: \(7\)/);
    }
    for (const other of [member, otherUser, rootOfUserNamespace]) expect(openSession(other)).toMatch(/^curl: \(7\)/);
    expect(openSession([])).toMatch(/^grpc-status: 0/m);

    chmodSync(socket(), 0o666);
    chmodSync(agentSocket(), 0o666);
    for (const other of [otherUser, rootOfUserNamespace]) {
      for (const rpc of ['Control/Status', 'Local/Info'])
        expect(JSON.parse(call(other, rpc))).toEqual({ code: 'permission_denied', message: refusal(rpc) });
    }
    for (const other of [member, otherUser, rootOfUserNamespace]) {
      expect(openSession(other)).toMatch(/^grpc-status: 7\r?$/m);
      expect(openSession(other)).toContain('may not call meshd.v1.Dispatch/Session: only root may');
    }
  });

  test('are the only listeners: TCP needs --insecure-dev', async () => {
    const { daemon } = await startManager();
    expect(listeners(daemon)).toEqual([]);
    daemon.kill('SIGTERM');
    await new Promise((resolve) => daemon.once('close', resolve));
    const insecure = await startManager({ flags: ['--insecure-dev', '--listen', '127.0.0.1:0'] });
    expect(listeners(insecure.daemon)).toEqual([expect.stringMatching(/^tcp .*127\.0\.0\.1:/)]);
  });
});

describe('the data of a manager is private', () => {
  test('files and environment, also in a state directory that others may enter', async () => {
    mkdirSync(stateDir(), { mode: 0o755 });
    const { daemon } = await startManager({ umask: '000' });
    expect(socketModes()).toEqual(['755', '660', '600']);
    const manifest = `services: {web: {command: [a], environment: {A: ${SECRET}}, x-mesh: {runtime: process}}}`;
    const control = connectControl(socket());
    await control.apply({ services: specs(manifest), dryRun: false });
    control.close();
    expect(run([], 'grep', '-rl', SECRET, stateDir())).toContain(stateDir());
    for (const other of [otherUser, member, rootOfUserNamespace]) {
      expect(run(other, 'find', stateDir(), '-type', 'f', '-readable')).not.toMatch(/^\//m);
      expect(run(other, 'find', stateDir(), '-writable')).not.toMatch(/^\//m);
      expect(run(other, 'cat', `/proc/${daemon.pid}/environ`)).not.toContain(SECRET);
    }
    expect(readFileSync(`/proc/${daemon.pid}/environ`, 'utf8')).toContain(SECRET);
  });
});

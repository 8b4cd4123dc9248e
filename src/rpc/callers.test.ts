import { spawn } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { dirname } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { type Caller, localCaller } from '../identity/caller.ts';
import { peerOf } from '../kernel/host/peer-credentials.ts';
import { control, scratch, serve, statusReply } from './rpc.test-data.ts';

const { path, onEnd } = scratch();
const OTHER_UID = 65_534;
const GROUP = 54_321;

/** curl as another user, over a socket that the file system lets anyone use. */
async function callAs(...identity: string[]): Promise<unknown> {
  const url = 'http://meshd/meshd.v1.Control/Status';
  const curl = ['curl', '-sS', '--unix-socket', path(), '-H', 'content-type: application/json', '-d', '{}', url];
  const child = spawn('setpriv', [...identity, ...curl], { stdio: ['ignore', 'pipe', 'inherit'] });
  return JSON.parse(await text(child.stdout));
}

test('root and members of the group are served, any other user is refused with what to do', async () => {
  const seen: Caller[] = [];
  const services = [
    control({
      status: async (_, { caller }) => {
        seen.push(caller);
        return statusReply;
      },
    }),
  ];
  const callerOf = (socket: Parameters<typeof peerOf>[0]) => localCaller(peerOf(socket), { uid: 0, group: GROUP });
  const server = await serve(path(), services, { callerOf });
  onEnd(() => server.stop());
  chmodSync(dirname(path()), 0o755);
  chmodSync(path(), 0o666);

  expect(await callAs('--clear-groups')).toMatchObject({ cluster_id: 'c' });
  expect(await callAs(`--reuid=${OTHER_UID}`, `--groups=${GROUP}`)).toMatchObject({ cluster_id: 'c' });
  expect(seen).toMatchObject([
    { kind: 'local', uid: 0, access: 'owner' },
    { kind: 'local', uid: OTHER_UID, access: 'group' },
  ]);
  expect(await callAs(`--reuid=${OTHER_UID}`, `--regid=${OTHER_UID}`, '--clear-groups')).toEqual({
    code: 'permission_denied',
    message: `user ${OTHER_UID} may not call meshd.v1.Control/Status: run it on the node as root or as a member of the group meshd`,
  });
  expect(seen.length).toBe(2);
});

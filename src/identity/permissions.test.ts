import { expect, test } from 'vitest';
import { file_dispatch } from '../rpc/gen/dispatch_pb.js';
import { file_mesh } from '../rpc/gen/mesh_pb.js';
import { type Caller, localCaller } from './caller.ts';
import { PERMISSIONS, refusal } from './permissions.ts';

const local = (access: 'owner' | 'group' | 'none', uid = 1000): Caller => ({ kind: 'local', uid, pid: 1, access });
const owner = local('owner', 0);
const member = local('group');
const stranger = local('none');
const worker: Caller = { kind: 'node', nodeId: 'n1', role: 'worker' };
const manager: Caller = { kind: 'node', nodeId: 'n2', role: 'manager' };
const admin: Caller = { kind: 'admin', name: 'alice' };

/** Every call of the schema. */
const calls = [...file_mesh.services, ...file_dispatch.services].flatMap(({ typeName, methods }) =>
  methods.map(({ name }) => `${typeName}/${name}`),
);

test('the table and the schema name the same calls', () => {
  expect(Object.keys(PERMISSIONS).sort()).toEqual([...calls].sort());
});

test.each(calls)('%s', (rpc) => {
  const may = (caller: Caller) => refusal(rpc, caller) === undefined;
  const isDispatch = rpc.includes('.Dispatch/');
  const isControl = rpc.includes('.Control/');
  expect(may(owner), 'root').toBe(true);
  expect(may(member), 'member of the group').toBe(!isDispatch);
  expect(may(stranger), 'any other user').toBe(false);
  expect(may(worker), 'worker').toBe(isDispatch);
  expect(may(manager), 'manager').toBe(isDispatch);
  expect(may(admin), 'administrator').toBe(isControl);
});

test('a call that is not in the table is refused, also by names that every object has', () => {
  for (const rpc of ['meshd.v1.Control/Nothing', 'constructor', '__proto__', ''])
    expect(refusal(rpc, owner)).toMatch(/no one may/);
});

test('a refusal names the caller, the call and what to do', () => {
  expect(refusal('meshd.v1.Control/Apply', stranger)).toBe(
    'user 1000 may not call meshd.v1.Control/Apply: run it on the node as root or as a member of the group meshd',
  );
  expect(refusal('meshd.v1.Dispatch/Session', member)).toMatch(/^user 1000 may not .*: only root may$/);
});

test('credentials of a socket become access', () => {
  const policy = { uid: 998, group: 997 };
  const access = (uid: number, gid: number, groups?: number[]) => {
    const caller = localCaller({ pid: 7, uid, gid, ...(groups && { groups }) }, policy);
    return caller.kind === 'local' ? caller.access : undefined;
  };
  expect(access(0, 0)).toBe('owner');
  expect(access(998, 998)).toBe('owner');
  expect(access(1000, 997)).toBe('group');
  expect(access(1000, 1000, [27, 997])).toBe('group');
  expect(access(1000, 1000, [27])).toBe('none');
  expect(access(1000, 1000)).toBe('none');
  expect(localCaller({ pid: 7, uid: 1000, gid: 0 }, { uid: 0, group: undefined })).toMatchObject({ access: 'none' });
  expect(localCaller(undefined, policy)).toMatchObject({ access: 'none' });
});

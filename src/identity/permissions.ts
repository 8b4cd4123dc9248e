import type { Caller } from './caller.ts';

/** The kinds of callers that the table distinguishes. */
export type Audience = 'owner' | 'group' | 'node' | 'admin';

/** People at this machine (root, and members of the group meshd) and administrators of the cluster. */
const PEOPLE: readonly Audience[] = ['owner', 'group', 'admin'];
/** On this machine only: the answer is about the meshd that is asked. */
const LOCAL: readonly Audience[] = ['owner', 'group'];
/** Agents: they receive every environment of their tasks, so members of the group do not count. */
const AGENTS: readonly Audience[] = ['owner', 'node'];

/** Who may call what, by `service/method` as in mesh.proto. */
export const PERMISSIONS: Readonly<Record<string, readonly Audience[]>> = {
  'meshd.v1.Control/Apply': PEOPLE,
  'meshd.v1.Control/Scale': PEOPLE,
  'meshd.v1.Control/RemoveServices': PEOPLE,
  'meshd.v1.Control/ListServices': PEOPLE,
  'meshd.v1.Control/ListTasks': PEOPLE,
  'meshd.v1.Control/ListNodes': PEOPLE,
  'meshd.v1.Control/UpdateNode': PEOPLE,
  'meshd.v1.Control/RemoveNode': PEOPLE,
  'meshd.v1.Control/Watch': PEOPLE,
  'meshd.v1.Control/Plan': PEOPLE,
  'meshd.v1.Control/Status': PEOPLE,
  'meshd.v1.Control/Ask': PEOPLE,
  'meshd.v1.Control/Trace': PEOPLE,
  'meshd.v1.Control/Doctor': PEOPLE,
  'meshd.v1.Control/ListPorts': PEOPLE,
  'meshd.v1.Control/UpdateService': PEOPLE,
  'meshd.v1.Local/Info': LOCAL,
  'meshd.v1.Local/Diff': LOCAL,
  'meshd.v1.Dispatch/Session': AGENTS,
};

/** Why this caller may not make this call and what to do, or undefined when it may. An unknown call is refused. */
export function refusal(rpc: string, caller: Caller): string | undefined {
  const allowed = Object.hasOwn(PERMISSIONS, rpc) ? PERMISSIONS[rpc]! : [];
  const audience = audienceOf(caller);
  if (audience !== undefined && allowed.includes(audience)) return undefined;
  return `${describe(caller)} may not call ${rpc}: ${remedy(allowed)}`;
}

function audienceOf(caller: Caller): Audience | undefined {
  if (caller.kind !== 'local') return caller.kind;
  return caller.access === 'none' ? undefined : caller.access;
}

function describe(caller: Caller): string {
  switch (caller.kind) {
    case 'local':
      return caller.uid < 0 ? 'a process that cannot be identified' : `user ${caller.uid}`;
    case 'node':
      return caller.nodeId === undefined ? 'a node' : `node ${caller.nodeId}`;
    case 'admin':
      return `administrator ${caller.name}`;
  }
}

function remedy(allowed: readonly Audience[]): string {
  if (allowed.includes('group')) return 'run it on the node as root or as a member of the group meshd';
  if (allowed.includes('owner')) return 'only root may';
  return 'no one may';
}

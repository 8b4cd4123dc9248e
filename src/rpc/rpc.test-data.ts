import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { silentLog } from '../base/log.ts';
import type { Caller } from '../identity/caller.ts';
import { controlChecks } from './check-messages.ts';
import { Control } from './gen/mesh_pb.js';
import type { StatusReply } from './messages.ts';
import { type RunningServer, type ServeOptions, servePeople } from './server.ts';
import { type Handlers, implement } from './service.ts';

/** For tests: a directory for sockets, and what has to end after each test. */
export function scratch(): { path(name?: string): string; onEnd(end: () => unknown): void } {
  let directory: string;
  const ends: (() => unknown)[] = [];
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'rpc-'));
  });
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    path: (name = 'meshd.sock') => join(directory, name),
    onEnd(end) {
      ends.push(end);
    },
  };
}

export const owner: Caller = { kind: 'local', uid: 0, pid: 1, access: 'owner' };

/** Options of a server whose callers are all root. */
export const trusting: ServeOptions = { callerOf: () => owner, log: silentLog() };

export const statusReply: StatusReply = {
  clusterId: 'c',
  revision: 7,
  version: '1',
  startedAt: 1,
  services: 2,
  tasksRunning: 3,
  tasksDesired: 4,
  nodesReady: 5,
  nodes: 6,
};

/** Control with some of its handlers; the others fail. */
export function control(some: Partial<Handlers<typeof Control>>) {
  const absent = Object.fromEntries(
    Control.methods.map(({ localName }) => [localName, () => Promise.reject(new Error('not part of this test'))]),
  );
  return implement(Control, controlChecks, { ...absent, ...some } as Handlers<typeof Control>, silentLog());
}

export async function serve(
  path: string,
  services: Parameters<typeof servePeople>[1],
  options: Partial<ServeOptions> = {},
): Promise<RunningServer> {
  return servePeople({ path, mode: 0o660 }, services, { ...trusting, ...options });
}

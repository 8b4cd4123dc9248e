import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openAgentDisk } from '../agent/agent-disk.ts';
import { systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { nodeName } from './node-name.ts';

let stateDir: string;
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'node-name-'));
});
afterEach(() => rmSync(stateDir, { recursive: true }));

const joinAs = (name: string) =>
  openAgentDisk(stateDir, systemClock, silentLog()).saveIdentity({ clusterId: 'c1', nodeId: 'n1', name });

test('a node that never joined has its host name up to the first dot', () => {
  expect(nodeName({ name: undefined, stateDir }, 'alpha.example.com')).toEqual({ name: 'alpha' });
});

test('a changed host name does not rename a node, and the log shows how to', async () => {
  await joinAs('alpha');
  expect(nodeName({ name: undefined, stateDir }, 'alpha.other.net')).toEqual({ name: 'alpha' });
  const { name, notice } = nodeName({ name: undefined, stateDir }, 'beta');
  expect(name).toBe('alpha');
  expect(notice).toMatch(/host name is beta; this node keeps the name alpha.*--name beta/);
});

test('a configured name renames it', async () => {
  await joinAs('alpha');
  expect(nodeName({ name: 'gamma', stateDir }, 'beta')).toEqual({ name: 'gamma' });
});

test('a damaged identity is left to the agent to report', () => {
  mkdirSync(join(stateDir, 'agent'));
  writeFileSync(join(stateDir, 'agent/identity.json'), '{');
  expect(nodeName({ name: undefined, stateDir }, 'beta')).toEqual({ name: 'beta' });
});

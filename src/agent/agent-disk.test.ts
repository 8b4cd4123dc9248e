import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { threeNodes } from '../plan/assignments.test-data.ts';
import { openAgentDisk } from './agent-disk.ts';

let stateDir: string;
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'disk-'));
});
afterEach(() => rmSync(stateDir, { recursive: true }));

const open = () => openAgentDisk(stateDir, systemClock, silentLog());
const assignment = threeNodes(['inet']);

it('keeps identity and assignment over a restart, for root alone', async () => {
  const disk = open();
  expect(disk.identity()).toBeUndefined();
  expect(disk.assignment()).toBeUndefined();
  await disk.saveIdentity({ clusterId: 'c', nodeId: 'n', name: 'node1' });
  disk.saveAssignment(() => ({ ...assignment, revision: 4 }));
  disk.saveAssignment(() => ({ ...assignment, revision: 5 }));
  await disk.flush();
  expect(open().identity()).toEqual({ clusterId: 'c', nodeId: 'n', name: 'node1' });
  expect(open().assignment()).toEqual({ ...assignment, revision: 5 });
  expect(statSync(join(stateDir, 'agent', 'assignment.json')).mode & 0o777).toBe(0o600);
});

it('waits for the manager when the assignment is damaged', () => {
  open();
  for (const text of ['', '{"revision":', '{}', 'null', '{"revision":1,"self":{"nodeId":"x"}}']) {
    writeFileSync(join(stateDir, 'agent', 'assignment.json'), text);
    expect(open().assignment()).toBeUndefined();
  }
});

it('refuses to be another node because the identity is damaged', () => {
  open();
  writeFileSync(join(stateDir, 'agent', 'identity.json'), '{"clus');
  expect(open).toThrow(/identity.json is damaged/);
});

it('reports that it cannot write, and writes the newest as soon as it can', async () => {
  const disk = open();
  rmSync(join(stateDir, 'agent'), { recursive: true });
  disk.saveAssignment(() => assignment);
  await expect(disk.flush()).rejects.toThrow(/cannot write/);
  open();
  await disk.flush();
  expect(JSON.parse(readFileSync(join(stateDir, 'agent', 'assignment.json'), 'utf8'))).toEqual(assignment);
});

import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import type { ChangeRecord } from '../../model/change-record.ts';
import { openHistory } from './history.ts';

let stateDir: string;
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'history-'));
});
afterEach(() => rmSync(stateDir, { recursive: true, force: true }));

const open = () => openHistory(stateDir, systemClock, silentLog());
const file = (name: string) => join(stateDir, 'agent', name);
const change = (at: number, more: Partial<ChangeRecord> = {}): ChangeRecord => ({
  at,
  took: 1.5,
  why: 'assignment',
  revision: at,
  wrong: [],
  by: [],
  services: [],
  steps: [`ipset add mesh-pub-tcp ${at}`],
  count: 1,
  failures: [],
  ...more,
});

describe('the history of a node', () => {
  it('answers at once and after a restart, oldest first, from a file that only root can read', async () => {
    const first = open();
    first.add(change(2));
    first.add(change(1, { why: 'start' }));
    expect((await first.query(undefined)).changes).toEqual([change(1, { why: 'start' }), change(2)]);
    const second = open();
    second.add(change(3));
    expect((await second.query({})).changes.map(({ at }) => at)).toEqual([1, 2, 3]);
    expect(statSync(file('history.jsonl')).mode & 0o777).toBe(0o600);
  });

  it('narrows by age, service and number', async () => {
    const history = open();
    const now = Date.now();
    history.add(change(now - 60_000, { services: ['web'] }));
    history.add(change(now - 500, { services: ['dns'] }));
    history.add(change(now - 400, { services: ['web', 'dns'] }));
    const ages = async (question: object) => (await history.query(question)).changes.map(({ at }) => now - at);
    expect(await ages({ age: 30_000 })).toEqual([500, 400]);
    expect(await ages({ service: 'web' })).toEqual([60_000, 400]);
    expect(await ages({ limit: 1 })).toEqual([400]);
    await expect(history.query({ limit: 0 })).rejects.toThrow(/malformed: limit/);
    await expect(history.query({ age: '10m' })).rejects.toThrow(/malformed: age/);
  });

  it('is bounded: long texts, many steps, and the two files', async () => {
    const history = open();
    const big = change(1, { steps: Array.from({ length: 500 }, () => 'x'.repeat(100_000)), count: 500 });
    for (let at = 1; at <= 30; at++) history.add({ ...big, at });
    await history.flush();
    const { changes } = await history.query({});
    expect(changes.at(-1)).toMatchObject({ at: 30, count: 500 });
    expect(changes.at(-1)!.steps).toHaveLength(50);
    for (let at = 31; at <= 60; at++) {
      history.add({ ...big, at });
      await history.flush();
    }
    const total = statSync(file('history.jsonl')).size + statSync(file('history.1.jsonl')).size;
    expect(total).toBeLessThan(2.2 * 1024 * 1024);
  });

  it('skips a line that a crash cut off, and continues after it', async () => {
    const first = open();
    first.add(change(1));
    await first.flush();
    writeFileSync(file('history.jsonl'), `${readFileSync(file('history.jsonl'), 'utf8')}{"at":2,"to`);
    const second = open();
    second.add(change(3));
    await second.flush();
    expect((await open().query({})).changes.map(({ at }) => at)).toEqual([1, 3]);
  });

  it('stays in memory while the disk cannot be written', async () => {
    writeFileSync(join(stateDir, 'agent'), 'in the way');
    const history = open();
    history.add(change(1));
    await history.flush();
    expect((await history.query({})).changes).toEqual([change(1)]);
  });
});

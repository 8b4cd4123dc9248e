import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../base/log.ts';
import type { Stored } from '../model/cluster.ts';
import { openEmbeddedStore } from './embedded.ts';
import type { Change, Store, Write } from './store.ts';

let directory: string;
let stores: Store[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'store-'));
});
afterEach(async () => {
  for (const store of stores) await store.close();
  stores = [];
  rmSync(directory, { recursive: true, force: true });
});

async function open(): Promise<Store> {
  const store = await openEmbeddedStore(directory, silentLog());
  stores.push(store);
  return store;
}

interface Thing extends Stored {
  value: string;
}

function thing(id: string, version: number, value = ''): Thing & Record<string, unknown> {
  return { id, version, createdAt: 1, updatedAt: 2, value };
}

test('an object that was put is stored with the next version, also after a restart', async () => {
  const store = await open();
  expect(store.revision()).toBe(0);
  expect(await store.transact([{ put: 'services', object: thing('a', 0, 'ä😀') }])).toEqual({ revision: 1 });
  await store.transact([{ put: 'services', object: thing('a', 1, 'second') }]);
  const expected = thing('a', 2, 'second');
  expect(store.get('services', 'a')).toEqual(expected);
  await store.close();
  const again = await open();
  expect(again.revision()).toBe(2);
  expect(again.list('services')).toEqual([expected]);
  expect(again.list('tasks')).toEqual([]);
});

test('a transaction is atomic; an outdated version is a conflict', async () => {
  const store = await open();
  await store.transact([{ put: 'tasks', object: thing('a', 0) }]);
  const stale: Write[] = [
    { put: 'tasks', object: thing('b', 0) },
    { put: 'tasks', object: thing('a', 0) },
  ];
  await expect(store.transact(stale)).rejects.toMatchObject({ code: 'conflict' });
  await expect(store.transact([{ remove: 'tasks', id: 'a', version: 7 }])).rejects.toMatchObject({ code: 'conflict' });
  await expect(store.transact([{ remove: 'tasks', id: 'zzz', version: 0 }])).rejects.toMatchObject({
    code: 'conflict',
  });
  expect(store.get('tasks', 'b')).toBeUndefined();
  expect(store.revision()).toBe(1);
});

test('two writers of one version: exactly one wins', async () => {
  const store = await open();
  await store.transact([{ put: 'tasks', object: thing('a', 0) }]);
  const results = await Promise.allSettled(
    ['x', 'y', 'z'].map((value) => store.transact([{ put: 'tasks', object: thing('a', 1, value) }])),
  );
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected', 'rejected']);
});

test('objects that are too large or duplicate in one transaction are rejected', async () => {
  const store = await open();
  const huge = store.transact([{ put: 'services', object: thing('a', 0, 'x'.repeat(2_000_000)) }]);
  await expect(huge).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringMatching(/services\/a is bigger/),
  });
  const twice = store.transact([
    { put: 'services', object: thing('a', 0) },
    { put: 'services', object: thing('a', 0) },
  ]);
  await expect(twice).rejects.toMatchObject({ code: 'invalid' });
  await expect(store.transact([{ put: 'services', object: thing('../a', 0) }])).rejects.toMatchObject({
    code: 'invalid',
  });
  expect(store.revision()).toBe(0);
});

test('a caller that changes its object afterwards does not change the store', async () => {
  const store = await open();
  const mine = { ...thing('a', 0), list: [1] };
  await store.transact([{ put: 'services', object: mine }]);
  mine.list.push(2);
  expect(store.get<Thing & { list: number[] }>('services', 'a')?.list).toEqual([1]);
});

test('watchers get every commit in order, before and after, one call per transaction; one that throws affects no other', async () => {
  const store = await open();
  const calls: Change[][] = [];
  store.watch(() => {
    throw new Error('bad listener');
  });
  const stop = store.watch((changes) => calls.push([...changes]));
  await store.transact([
    { put: 'services', object: thing('a', 0) },
    { put: 'nodes', object: thing('n', 0) },
  ]);
  await store.transact([{ remove: 'services', id: 'a', version: 1 }]);
  stop();
  await store.transact([{ put: 'services', object: thing('late', 0) }]);
  expect(calls).toEqual([
    [
      { revision: 1, collection: 'services', id: 'a', before: undefined, after: thing('a', 1) },
      { revision: 1, collection: 'nodes', id: 'n', before: undefined, after: thing('n', 1) },
    ],
    [{ revision: 2, collection: 'services', id: 'a', before: thing('a', 1), after: undefined }],
  ]);
});

test('any history of writes results in the same objects after a restart', async () => {
  const step = fc.record({
    id: fc.constantFrom('a', 'b', 'c'),
    remove: fc.boolean(),
    value: fc.string({ unit: 'binary' }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(step, { maxLength: 3 }), { maxLength: 8 }), async (history) => {
      rmSync(directory, { recursive: true, force: true });
      const store = await openEmbeddedStore(directory, silentLog());
      for (const steps of history) {
        const writes = new Map<string, Write>();
        for (const { id, remove, value } of steps) {
          const version = store.get('tasks', id)?.version ?? 0;
          if (!remove) writes.set(id, { put: 'tasks', object: thing(id, version, value) });
          else if (version > 0) writes.set(id, { remove: 'tasks', id, version });
        }
        await store.transact([...writes.values()]);
      }
      const before = { revision: store.revision(), tasks: store.list('tasks') };
      await store.close();
      const again = await openEmbeddedStore(directory, silentLog());
      const after = { revision: again.revision(), tasks: again.list('tasks') };
      await again.close();
      const sorted = (things: Stored[]) => things.sort((a, b) => (a.id < b.id ? -1 : 1));
      expect({ ...after, tasks: sorted(after.tasks) }).toEqual({ ...before, tasks: sorted(before.tasks) });
    }),
    { numRuns: 15 },
  );
});

test('a second process is rejected while the first has the store open, and accepted afterwards', async () => {
  const store = await open();
  await expect(open()).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringMatching(/another meshd uses the store/),
  });
  await store.transact([{ put: 'nodes', object: thing('a', 0) }]);
  await store.close();
  expect((await open()).list('nodes')).toHaveLength(1);
});

test('of several processes that create the store at once, one succeeds', async () => {
  const results = await Promise.allSettled([open(), open(), open()]);
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  for (const result of results) {
    if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'conflict' });
  }
});

test('a closed store rejects transactions; close waits for pending ones', async () => {
  const store = await open();
  const begun = store.transact([{ put: 'nodes', object: thing('a', 0) }]);
  await Promise.all([begun, store.close()]);
  await expect(store.transact([{ put: 'nodes', object: thing('b', 0) }])).rejects.toMatchObject({
    code: 'unavailable',
  });
});

test('only the owner can read it, new files included', async () => {
  const store = await open();
  for (let n = 0; n < 12; n += 1) {
    await store.transact([{ put: 'nodes', object: thing(`n${n}`, 0, 'x'.repeat(900_000)) }]);
  }
  const modes = () =>
    readdirSync(directory, { recursive: true })
      .map((name) => join(directory, String(name)))
      .map((path) => ({ path, mode: (statSync(path, { throwIfNoEntry: false })?.mode ?? 0) & 0o077 }))
      .filter(({ mode }) => mode !== 0);
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  await expect.poll(modes).toEqual([]);
});

test('an incomplete database of a start that was killed is ignored', async () => {
  writeFileSync(join(mkdtempSync(join(directory, 'new-')), 'CURRENT'), 'garbage');
  const store = await open();
  expect(store.revision()).toBe(0);
  expect(readdirSync(directory).sort()).toEqual(['HEAD', 'db']);
});

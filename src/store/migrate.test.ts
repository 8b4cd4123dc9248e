import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../base/log.ts';
import type { Service, Stored, Task } from '../model/cluster.ts';
import type { ServiceSpec } from '../model/spec.ts';
import { databasePath } from './database.ts';
import { openEmbeddedStore } from './embedded.ts';
import { openHead } from './head.ts';
import { encodeRow, FORMAT_KEY, SUMMARY_KEY } from './rows.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'store-format1-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const spec = (command: string, more: Partial<ServiceSpec> = {}): ServiceSpec => ({
  name: 'web',
  labels: {},
  runtime: 'process',
  command: [command],
  workingDir: '/',
  environment: { KEY: command },
  mode: 'replicated',
  replicas: 2,
  constraints: [],
  restart: { condition: 'any', maxAttempts: 0, window: 0 },
  stopGracePeriod: 10_000,
  ports: [],
  ...more,
});
const HEALTH = {
  probe: { kind: 'tcp' as const, port: 80 },
  interval: 1,
  timeout: 1,
  retries: 1,
  startPeriod: 0,
  startInterval: 1,
};

/** Rows as meshd 0.1 stored them: a service whose second generation is being rolled out. */
const service = { id: 's1', version: 2, createdAt: 1, updatedAt: 5, name: 'web', taskGeneration: 2, spec: spec('new') };
const task = (id: string, generation: number, copy: ServiceSpec) => ({
  id,
  version: 3,
  createdAt: generation,
  updatedAt: 6,
  serviceId: 's1',
  serviceName: 'web',
  slot: 1,
  nodeId: 'n1',
  generation,
  spec: copy,
  addresses: [{ networkId: 'ingress', address: '10.252.1.5' }],
  desired: 'running',
  status: { state: 'running', message: '', error: '', since: 4 },
  restarts: 0,
});
const ROWS: [collection: string, object: Stored][] = [
  ['services', service],
  ['tasks', task('t1', 1, spec('old', { health: HEALTH, stopGracePeriod: 3_000 }))],
  ['tasks', task('t2', 1, spec('old', { health: HEALTH, stopGracePeriod: 5_000 }))],
  ['tasks', task('t3', 2, spec('new'))],
];

async function writeFormat1(format = 1): Promise<void> {
  mkdirSync(databasePath(directory), { recursive: true });
  const level = new ClassicLevel<string, string>(databasePath(directory), { compression: false });
  let digest = 0;
  for (const [collection, object] of ROWS) {
    const key = `${collection}/${object.id}`;
    const { row, checksum } = encodeRow(key, object);
    digest ^= checksum;
    await level.put(key, row);
  }
  await level.put(FORMAT_KEY, encodeRow(FORMAT_KEY, { format }).row);
  await level.put(SUMMARY_KEY, encodeRow(SUMMARY_KEY, { revision: 9, rows: ROWS.length, digest: digest >>> 0 }).row);
  await level.close();
  openHead(join(directory, 'HEAD'), 9).close();
}

test('a store of format 1 keeps every object; each generation is stored once and tasks refer to it', async () => {
  await writeFormat1();
  // Twice: the second start reads what the first one wrote.
  for (let start = 0; start < 2; start += 1) {
    const store = await openEmbeddedStore(directory, silentLog());
    expect(store.revision()).toBe(9);
    expect(store.list<Service>('services')).toEqual([service]);
    expect(store.list('generations').sort((a, b) => (a.id < b.id ? -1 : 1))).toMatchObject([
      { id: 's1.1', version: 1, serviceId: 's1', generation: 1, template: { command: ['old'], health: HEALTH } },
      {
        id: 's1.2',
        version: 1,
        serviceId: 's1',
        generation: 2,
        template: { command: ['new'], environment: { KEY: 'new' } },
      },
    ]);
    const tasks = store.list<Task>('tasks');
    expect(
      tasks.map(({ id, version, generation, stopGracePeriod, hasHealthCheck }) => [
        id,
        version,
        generation,
        stopGracePeriod,
        hasHealthCheck,
      ]),
    ).toEqual([
      ['t1', 3, 1, 3_000, true],
      ['t2', 3, 1, 5_000, true],
      ['t3', 3, 2, 10_000, undefined],
    ]);
    for (const one of tasks) expect(one).not.toHaveProperty('spec');
    expect(tasks[0]?.addresses).toEqual([{ networkId: 'ingress', address: '10.252.1.5' }]);
    await store.close();
  }
});

test('after the migration transactions continue with the stored versions', async () => {
  await writeFormat1();
  const store = await openEmbeddedStore(directory, silentLog());
  const [first] = store.list<Task & Record<string, unknown>>('tasks');
  await store.transact([
    { put: 'tasks', object: first! },
    { remove: 'generations', id: 's1.2', version: 1 },
  ]);
  await store.close();
  const again = await openEmbeddedStore(directory, silentLog());
  expect(again.revision()).toBe(10);
  expect(again.list('generations')).toHaveLength(1);
  await again.close();
});

test('a format of a later meshd is rejected', async () => {
  await writeFormat1(3);
  await expect(openEmbeddedStore(directory, silentLog())).rejects.toMatchObject({
    code: 'unsupported',
    message: 'the store has format 3, this meshd supports formats 1 to 2: install the meshd that wrote it',
  });
});

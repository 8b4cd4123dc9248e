import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Generation } from '../model/generation.ts';
import { spec, type TestCluster, testCluster } from './manager.test-data.ts';

let cluster: TestCluster;
beforeEach(async () => {
  cluster = await testCluster();
});
afterEach(() => cluster.stop());

const stored = () =>
  cluster.store
    .list<Generation>('generations')
    .map(({ generation, template }) => `${generation} ${template.command}`)
    .sort();

test('a generation is stored once for all tasks, until its last task and its service are removed', async () => {
  await cluster.agent('node1');
  await cluster.apply(spec('web', { replicas: 3, environment: { SECRET: 'of the first' } }));
  await cluster.waitUntil(async () => (await cluster.tasks()).every(({ status }) => status?.state === 'running'));
  expect(stored()).toEqual(['1 serve']);
  expect(JSON.stringify(cluster.store.list('tasks'))).not.toContain('SECRET');

  await cluster.apply(spec('web', { replicas: 3, command: ['second'] }));
  expect(stored()).toEqual(['1 serve', '2 second']);
  await cluster.waitUntil(async () => (await cluster.tasks()).every(({ command }) => command[0] === 'second'));
  // Ended tasks are shown with the command they had.
  const all = await cluster.control.listTasks({ includeEnded: true });
  expect(all.tasks.map(({ command }) => command[0]).sort()).toEqual([
    ...Array(3).fill('second'),
    ...Array(3).fill('serve'),
  ]);

  await cluster.control.removeServices({ services: ['web'] });
  await cluster.waitUntil(() => cluster.store.list('tasks').length === 0 && stored().length === 0);
  expect(cluster.store.list('services')).toEqual([]);
});

test('a change that needs no new tasks stores no generation', async () => {
  await cluster.apply(spec('web', { replicas: 1 }));
  await cluster.apply(spec('web', { replicas: 2, stopGracePeriod: 1_000 }));
  expect(stored()).toEqual(['1 serve']);
});

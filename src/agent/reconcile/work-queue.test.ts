import { beforeEach, expect, it, vi } from 'vitest';
import { silentLog } from '../../base/log.ts';
import { createWorkQueue, type WorkQueue } from './work-queue.ts';

const LINKS = { netns: ['mesh-lb'], kinds: ['veth'] } as const;

let queue: WorkQueue;
const onWork = vi.fn();
beforeEach(() => {
  onWork.mockClear();
  queue = createWorkQueue(silentLog(), onWork);
});

it('reports that there may be work', () => {
  queue.addScope(LINKS);
  queue.requestFullPass();
  void queue.addRead(async () => 1);
  expect(onWork).toHaveBeenCalledTimes(3);
});

it('keeps work that changes the kernel until it is started', () => {
  queue.addScope(LINKS);
  expect(queue.take(true)).toBeUndefined();
  queue.advance('start');
  expect(queue.take(true)).toEqual({ kind: 'changes' });
  expect(queue.take(false)).toEqual({ kind: 'scope', scope: LINKS });
  expect(queue.take(false)).toBeUndefined();
});

it('observes queued scopes as parts of a full pass, or of a scope that covers everything', () => {
  queue.advance('start');
  queue.addScope(LINKS);
  queue.requestFullPass();
  expect(queue.take(false)).toEqual({ kind: 'full' });
  queue.beginFullPass();
  expect(queue.take(false)).toBeUndefined();
  queue.addScope(LINKS);
  queue.addScope({});
  expect(queue.take(false)).toEqual({ kind: 'scope', scope: {} });
  expect(queue.take(false)).toBeUndefined();
});

it('passes on what a read resolves with and what it throws', async () => {
  const done = queue.addRead(async () => 'listeners');
  const failed = queue.addRead(() => {
    throw new Error('EPERM');
  });
  for (let work = queue.take(false); work?.kind === 'read'; work = queue.take(false)) await work.run();
  await expect(done).resolves.toBe('listeners');
  await expect(failed).rejects.toThrow('EPERM');
});

it('rejects reads that wait when it stops, and those that come later', async () => {
  const waiting = queue.addRead(async () => 1);
  queue.advance('stop');
  await expect(waiting).rejects.toMatchObject({ code: 'unavailable' });
  await expect(queue.addRead(async () => 1)).rejects.toMatchObject({ code: 'unavailable' });
  expect(queue.take(true)).toBeUndefined();
});

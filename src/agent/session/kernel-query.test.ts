import { expect, it } from 'vitest';
import { answerKernelQuery } from './kernel-query.ts';

const SOCKETS = [
  { protocol: 'tcp' as const, port: 80, address: '0.0.0.0', inode: 5 },
  { protocol: 'tcp' as const, port: 80, address: '::', inode: 6, v6only: true as const },
  { protocol: 'tcp' as const, port: 81, address: '0.0.0.0' },
  { protocol: 'udp' as const, port: 80, address: '0.0.0.0' },
];
const looked: string[] = [];
const source = {
  revision: 7,
  addresses: async () => [],
  observe: async () => new Map(),
  tasks: () => [
    { id: 't1', serviceId: 'web' },
    { id: 't2', serviceId: 'other' },
    { id: 't3', serviceId: 'web' },
  ],
  async listeners(taskId: string) {
    looked.push(taskId);
    return taskId === 't3' ? [] : SOCKETS;
  },
};
const socketsFor = async (protocol: 'tcp' | 'udp', ...targets: { serviceId: string; port: number }[]) =>
  (await answerKernelQuery({ protocol, published: 8080, targets }, source)).sockets;

it('reports the sockets of the tasks of the requested services on their target', async () => {
  expect(await socketsFor('tcp', { serviceId: 'web', port: 80 })).toEqual([
    { taskId: 't1', protocol: 'tcp', port: 80, address: '0.0.0.0' },
    { taskId: 't1', protocol: 'tcp', port: 80, address: '::', v6only: true },
  ]);
  expect(looked).toEqual(['t1', 't3']);
  expect(await socketsFor('udp', { serviceId: 'web', port: 80 }, { serviceId: 'other', port: 81 })).toEqual([
    { taskId: 't1', protocol: 'udp', port: 80, address: '0.0.0.0' },
  ]);
});

it('reports an empty list for services without a task here, and none if none is requested', async () => {
  expect(await socketsFor('tcp', { serviceId: 'third', port: 80 })).toEqual([]);
  expect(await answerKernelQuery({ protocol: 'tcp', published: 8080 }, source)).not.toHaveProperty('sockets');
  expect(await answerKernelQuery(undefined, source)).not.toHaveProperty('sockets');
});

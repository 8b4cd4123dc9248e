import { afterEach, beforeEach, expect, it } from 'vitest';
import { createModelKernel } from '../kernel/model/model-kernel.ts';
import { HOST_NETNS } from '../model/linux-names.ts';
import {
  assignment,
  desiredState,
  eventually,
  extraPort,
  type FakeManager,
  fakeManager,
  startNode,
  type TestNode,
} from './agent.test-data.ts';

let manager: FakeManager;
let node: TestNode;

beforeEach(async () => {
  manager = await fakeManager();
  manager.assignment = assignment();
});
afterEach(async () => {
  await node.close();
  await manager.stop();
});

const isPublished = (port: number) => node.kernel.state().has(`set-member ${HOST_NETNS} mesh-pub-tcp ${port}`);
const keys = (objects: ReadonlyMap<string, unknown>) => [...objects.keys()].sort();
const conditions = () =>
  manager
    .of('portConditions')
    .at(-1)
    ?.conditions.map(({ kind, published }) => `${kind} ${published}`);

it('a port of sshd is not published, neither at the start nor as a new port, until sshd has exited', async () => {
  const kernel = createModelKernel();
  kernel.setListeners(HOST_NETNS, [
    { protocol: 'tcp', port: 9000, address: '0.0.0.0', inode: 7 },
    { protocol: 'tcp', port: 9001, address: '::', inode: 7 },
    { protocol: 'tcp', port: 9002, address: '0.0.0.0', inode: 8 },
  ]);
  kernel.setOwner(7, { pid: 700, process: 'sshd', uid: 0, executable: '/usr/sbin/sshd' });
  kernel.setOwner(8, { pid: 812, process: 'nginx' });
  const taken: string[] = [];
  kernel.onStep(({ verb, object }) => {
    if (object.kind === 'set-member' && object.netns === HOST_NETNS) taken.push(`${verb} ${object.port}`);
  });
  const whole = assignment();
  manager.assignment = { ...whole, ports: [...whole.ports, extraPort(9000)] };
  node = await startNode([manager.address], { kernel });
  await eventually(() => manager.of('ack').some(({ revision }) => revision === 1));
  expect(keys(kernel.state())).toEqual(keys(desiredState(whole)));
  expect(manager.of('listeners')[0]?.listeners).toHaveLength(3);

  manager.delta({ ports: [extraPort(9001), extraPort(9002)] });
  await eventually(() => conditions()?.join() === 'withheld 9000,withheld 9001,taken 9002');
  expect([9000, 9001, 9002].map(isPublished)).toEqual([false, false, true]);
  expect(taken.filter((step) => /900[01]$/.test(step))).toEqual([]);

  kernel.setListeners(HOST_NETNS, []);
  await eventually(() => conditions()?.length === 0 && [9000, 9001, 9002].every(isPublished));
  expect(keys(kernel.state())).toEqual(keys(desiredState(manager.assignment!)));
  // sshd is not affected when the manager removes the ports.
  manager.delta({ removedPorts: ['9000/tcp', '9001/tcp', '9002/tcp'] });
  await eventually(() => ![9000, 9001, 9002].some(isPublished));
});

it('a new session begins with a full report', async () => {
  const kernel = createModelKernel();
  kernel.setListeners(HOST_NETNS, [{ protocol: 'tcp', port: 8080, address: '0.0.0.0' }]);
  node = await startNode([manager.address], { kernel });
  await eventually(() => conditions()?.join() === 'taken 8080');
  await node.restart();
  await eventually(() => manager.sessions === 2 && manager.of('listeners').length >= 2);
  await eventually(() => manager.of('portConditions').length >= 2 && conditions()?.join() === 'taken 8080');
});

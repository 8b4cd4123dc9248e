import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { createModelKernel } from '../../kernel/model/model-kernel.ts';
import type { Vxlan } from '../../model/kinds/vxlan.ts';
import { assignment, eventually, type FakeManager, fakeManager, startNode, type TestNode } from '../agent.test-data.ts';
import { createConditions } from '../conditions.ts';
import { createNodeWatch } from './node-watch.ts';

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

const codes = () => node.agent.info().conditions.map(({ code }) => code);
const reported = () =>
  manager
    .of('conditions')
    .at(-1)
    ?.conditions.map(({ code }) => code);
const overlayMtus = () =>
  new Set(
    [...node.kernel.state().values()]
      .filter((object): object is Vxlan => object.kind === 'vxlan')
      .map(({ mtu }) => mtu),
  );
const UNDERLAY = { link: 'eth0', mtu: 1_500, ethernet: true, address: '192.0.2.1', prefix: 24 };

describe('the advertised address', () => {
  it('is lost and comes back while the agent runs: a condition, reported at once', async () => {
    node = await startNode([manager.address]);
    await eventually(() => overlayMtus().size > 0, 'the overlay');
    expect(codes()).toEqual([]);
    node.kernel.changeHost({ addresses: [] });
    await eventually(() => reported()?.includes('UnderlayAddressMissing'), 'the report');
    // What the kernel holds stays: the address may come back at any moment.
    expect(overlayMtus()).toEqual(new Set([1_450]));
    node.kernel.changeHost({ addresses: [UNDERLAY] });
    await eventually(() => reported()?.length === 0, 'the end of the condition');
  });

  it('that is missing at the start is in the first report of the session', async () => {
    const kernel = createModelKernel();
    kernel.changeHost({ addresses: [{ ...UNDERLAY, address: '192.0.2.2' }] });
    node = await startNode([manager.address], { kernel });
    const first = await eventually(() => manager.of('conditions')[0], 'the first report');
    expect(first.conditions).toMatchObject([{ code: 'UnderlayAddressMissing', params: { address: '192.0.2.1' } }]);
  });
});

it('a link without carrier, or a lost route to the other nodes, is a condition until there is a path again', async () => {
  node = await startNode([manager.address]);
  await eventually(() => overlayMtus().size > 0, 'the overlay');
  expect(codes()).toEqual([]);
  const path = { link: 'eth0', mtu: 1_500 };
  for (const broken of [{ ...path, carrier: false }, undefined]) {
    node.kernel.changeHost({ path: broken }, { of: 'addresses' });
    await eventually(() => reported()?.includes('UnderlayDisconnected'), 'the report');
    node.kernel.changeHost({ path: { ...path, carrier: true } }, { of: 'addresses' });
    await eventually(() => reported()?.length === 0, 'the end of the condition');
  }
});

describe('a network of the host inside the overlay', () => {
  const lan = { link: 'eth1', destination: '10.252.0.0/16', via: undefined };

  it('that is there at the start is a condition as soon as the overlay is known', async () => {
    const kernel = createModelKernel();
    kernel.changeHost({ routes: [lan] });
    node = await startNode([manager.address], { kernel });
    const found = await eventually(
      () => node.agent.info().conditions.find(({ code }) => code === 'OverlayOverlap'),
      'the condition',
    );
    expect(found.params['networks']).toBe('10.252.0.0/16 on eth1');
  });

  it('is one as long as there is a route to it', async () => {
    node = await startNode([manager.address]);
    await eventually(() => overlayMtus().size > 0, 'the overlay');
    node.kernel.changeHost({ routes: [lan] });
    await eventually(() => reported()?.includes('OverlayOverlap'), 'the report');
    node.kernel.changeHost({ routes: [] });
    await eventually(() => reported()?.length === 0, 'the end of the condition');
  });

  it('ends with a route that is removed without an event of its own, as with a link that goes down', async () => {
    node = await startNode([manager.address]);
    await eventually(() => overlayMtus().size > 0, 'the overlay');
    node.kernel.changeHost({ routes: [{ ...lan, via: '192.168.1.1' }] });
    await eventually(() => reported()?.includes('OverlayOverlap'), 'the report');
    node.kernel.changeHost({ routes: [] }, { of: 'addresses' });
    await eventually(() => reported()?.length === 0, 'the end of the condition');
  });

  it('that appears before the overlay is known is one as soon as it is', async () => {
    const kernel = createModelKernel();
    const conditions = createConditions(() => {});
    let overlay: string[] = [];
    const watch = createNodeWatch({
      network: kernel.hostNetwork,
      pressure: async () => [],
      underlay: UNDERLAY.address,
      overlay: () => overlay,
      peers: () => [],
      conditions,
      onUnderlayMtu: () => {},
      clock: systemClock,
      log: silentLog(),
    });
    node = await startNode([manager.address]);
    await watch.start();
    kernel.changeHost({ routes: [lan] }, { of: 'route', destination: lan.destination });
    overlay = ['10.252.0.0/14'];
    watch.assignmentChanged();
    await eventually(() => conditions.get('OverlayOverlap') !== undefined, 'the condition');
    watch.stop();
  });
});

describe('the MTU of the overlay', () => {
  it('follows the routes to the peers', async () => {
    node = await startNode([manager.address]);
    await eventually(() => overlayMtus().has(1_450), 'the overlay');
    node.kernel.changeHost({ path: { link: 'eth0', mtu: 1_400, carrier: true } });
    await eventually(() => overlayMtus().has(1_350), 'the smaller MTU');
    expect(overlayMtus()).toEqual(new Set([1_350]));
    node.kernel.changeHost({ path: { link: 'eth1', mtu: 9_000, carrier: true } });
    await eventually(() => overlayMtus().has(8_950), 'the greater MTU');
    // Later changes of the assignment are planned with it, too.
    manager.delta({ removedTasks: [assignment().tasks[0]!.id] });
    await eventually(() => manager.of('ack').some(({ revision }) => revision === 2), 'the next revision');
    expect(overlayMtus()).toEqual(new Set([8_950]));
  });

  it('stays while the host has no route to any peer', async () => {
    node = await startNode([manager.address]);
    await eventually(() => overlayMtus().has(1_450), 'the overlay');
    const before = node.kernel.counters().operations;
    node.kernel.changeHost({ path: undefined });
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(node.kernel.counters().operations).toBe(before);
  });
});

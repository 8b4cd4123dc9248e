import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node } from '../model/cluster.ts';
import { endpoints, spec, type TestCluster, tcp, testCluster } from './manager.test-data.ts';

let cluster: TestCluster;
beforeEach(async () => {
  cluster = await testCluster();
});
afterEach(() => cluster.stop());

const running = async (service: string) =>
  (await cluster.tasks(service)).filter((task) => task.status?.state === 'running');
const nodes = async () => (await cluster.control.listNodes({})).nodes;

describe('nodes', () => {
  test('one is down after three missed heartbeats; its endpoints are removed, its tasks run elsewhere', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(80)] }));
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 2);
    two.sendsHeartbeats = false;
    two.responds = false;
    await cluster.advanceTime(5_000);
    expect((await nodes()).map(({ state }) => state)).toEqual(['ready', 'ready']);
    await cluster.advanceTime(2_000);
    expect((await nodes()).map(({ state }) => state)).toEqual(['ready', 'down']);
    expect(await two.ended).toMatchObject({ code: 'unavailable', message: expect.stringMatching(/no heartbeat/) });
    await cluster.waitUntil(() => one.assignment!.tasks.length === 2 && endpoints(one.assignment, 80).length === 2);
    const back = await cluster.agent('node2', { nodeId: two.nodeId, underlay: '192.0.2.2' });
    expect(back.nodeId).toBe(two.nodeId);
    await cluster.waitUntil(() => back.assignment!.tasks.length === 0);
    expect((await nodes()).map(({ state }) => state)).toEqual(['ready', 'ready']);
    expect(one.assignment!.tasks).toHaveLength(2);
  });

  test('one that reconnects in time after a broken stream stays ready', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(80)] }));
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 1);
    const before = await nodes();
    one.close();
    await cluster.advanceTime(12_000);
    const again = await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1' });
    expect(endpoints(again.assignment, 80)).toHaveLength(1);
    expect((await nodes())[0]).toMatchObject({ state: 'ready', stateSince: before[0]!.stateSince, number: 1 });
  });

  test('one whose session was closed and that does not reconnect is down after a longer timeout', async () => {
    const one = await cluster.agent('node1');
    one.close();
    await cluster.advanceTime(25_000);
    expect((await nodes())[0]?.state).toBe('ready');
    await cluster.advanceTime(7_000);
    expect((await nodes())[0]?.state).toBe('down');
  });

  test('a second session of a node replaces the first', async () => {
    const one = await cluster.agent('node1');
    const two = await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1' });
    expect(await one.ended).toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/another session of node node1/),
    });
    await cluster.apply(spec('web'));
    await cluster.waitUntil(() => two.assignment!.tasks.length === 1);
  });

  test('another machine with the name or the address of a connected one is rejected', async () => {
    await cluster.agent('node1');
    await expect(cluster.agent('node1', { underlay: '192.0.2.77' })).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/--name/),
    });
    await expect(cluster.agent('node9', { underlay: '192.0.2.1' })).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/--advertise/),
    });
  });

  test.each<[string, Record<string, unknown>]>([
    ['name', { name: '../x' }],
    ['address', { underlay: '192.0.2' }],
    ['loopback address', { underlay: '127.0.0.1' }],
    ['role', { role: 'king' }],
  ])('a hello with an invalid %s is rejected', async (_, hello) => {
    await expect(cluster.agent('node1', hello)).rejects.toMatchObject({ code: 'invalid' });
    expect(await nodes()).toEqual([]);
  });

  test('labels set by the agent and by users do not overwrite each other', async () => {
    const one = await cluster.agent('node1', { labels: { zone: 'a', disk: 'ssd' } });
    await cluster.control.updateNode({
      node: 'node1',
      setLabels: { zone: 'b', rack: '7' },
      removeLabels: [],
    });
    await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1', labels: { zone: 'a', cpu: 'fast' } });
    expect((await nodes())[0]?.labels).toEqual({ zone: 'b', rack: '7', cpu: 'fast' });
  });

  test('drain moves tasks to other nodes one after the other; pause keeps them', async () => {
    const one = await cluster.agent('node1');
    await cluster.agent('node2');
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(80)] }));
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 2);
    const set = (availability: Node['availability']) =>
      cluster.control.updateNode({ node: 'node1', setLabels: {}, removeLabels: [], availability });
    await set('pause');
    await cluster.advanceTime(500);
    expect(one.assignment!.tasks).toHaveLength(1);
    await set('drain');
    await cluster.waitUntil(async () => one.assignment!.tasks.length === 0 && (await running('web')).length === 2);
    await expect(set('sleep' as never)).rejects.toMatchObject({ code: 'invalid' });
  });

  test('removal: only when down or by force; its tasks run elsewhere, its peers remove it', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { replicas: 2 }));
    await cluster.waitUntil(async () => (await running('web')).length === 2);
    await expect(cluster.control.removeNode({ node: 'node2', force: false })).rejects.toMatchObject({
      code: 'conflict',
    });
    await cluster.control.removeNode({ node: 'node2', force: true });
    expect(await two.ended).toMatchObject({ code: 'conflict', message: expect.stringMatching(/removed/) });
    await cluster.waitUntil(() => one.assignment!.tasks.length === 2 && one.assignment!.peers.length === 0);
    expect((await nodes()).map(({ name }) => name)).toEqual(['node1']);
  });

  const addressLost = { code: 'UnderlayAddressMissing', params: { address: '192.0.2.2' } };

  test('one without its advertised address: no new tasks, and its endpoints are its own only, until it has it again', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(80)] }));
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 2);
    two.conditions(addressLost);
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 1);
    await cluster.waitUntil(() => endpoints(two.assignment, 80).length === 1);
    expect(endpoints(one.assignment, 80)[0]?.nodeId).toBe(one.nodeId);
    expect(endpoints(two.assignment, 80)[0]?.nodeId).toBe(two.nodeId);
    await cluster.apply(spec('web', { replicas: 4, ports: [tcp(80)] }));
    await cluster.waitUntil(async () => (await running('web')).length === 4);
    expect(one.assignment!.tasks).toHaveLength(3);
    expect(two.assignment!.tasks).toHaveLength(1);
    expect((await nodes())[1]).toMatchObject({
      state: 'ready',
      conditions: [expect.stringMatching(/^UnderlayAddressMissing: .*192\.0\.2\.2/)],
    });
    two.conditions();
    for (const agent of [one, two]) await cluster.waitUntil(() => endpoints(agent.assignment, 80).length === 4);
    // It joined last, on every node.
    expect(endpoints(one.assignment, 80).at(-1)?.nodeId).toBe(two.nodeId);
    expect(endpoints(two.assignment, 80)).toEqual(endpoints(one.assignment, 80));
  });

  test('what keeps a node from serving is stored: a restarted manager knows it before the node reports again', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { mode: 'global', ports: [tcp(80)] }));
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 2);
    two.conditions(addressLost);
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 1);
    await cluster.restart();
    const again = await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1' });
    expect(endpoints(again.assignment, 80).map(({ nodeId }) => nodeId)).toEqual([one.nodeId]);
  });

  test('a store that fails at that moment is asked again', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { mode: 'global', ports: [tcp(80)] }));
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 2);
    let failures = 0;
    cluster.store.onTransact = () => {
      failures += 1;
      if (failures <= 2) throw new Error('disk full');
    };
    two.conditions(addressLost);
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 1);
    expect(failures).toBeGreaterThan(2);
  });

  test('a condition that the manager only shows reaches watchers at once, too', async () => {
    const one = await cluster.agent('node1');
    const seen: string[][] = [];
    const end = new AbortController();
    const watching = (async () => {
      const request = { services: false, tasks: false, nodes: true };
      for await (const { object } of cluster.control.watch(request, { signal: end.signal }))
        if (object?.case === 'node') seen.push(object.value.conditions);
    })();
    await cluster.waitUntil(() => seen.length > 0);
    one.conditions({ code: 'OverlayOverlap', params: { networks: '10.252.0.0/16 on eth1', overlay: '10.252.0.0/14' } });
    await cluster.waitUntil(() => seen.at(-1)?.[0]?.startsWith('OverlayOverlap: ') === true);
    one.conditions();
    await cluster.waitUntil(() => seen.at(-1)?.length === 0);
    end.abort();
    await expect(watching).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('conditions of a node are shown', async () => {
    const one = await cluster.agent('node1');
    one.conditions({ code: 'SchedulerLost', params: { scheduler: 'ip_vs_mh' } });
    await cluster.waitUntil(async () => (await nodes())[0]!.conditions.includes('SchedulerLost (scheduler ip_vs_mh)'));
    expect(one.assignment?.self).toMatchObject({ name: 'node1', number: 1, underlay: '192.0.2.1' });
    await cluster.waitUntil(async () => (await nodes())[0]!.acknowledgedRevision === one.assignment!.revision);
  });
});

describe('a manager that is restarted', () => {
  test('keeps the whole state, changes nothing, and waits for agents to reconnect', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(80)] }));
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 2);
    const revision = cluster.store.revision();
    const { clusterId } = cluster.manager;
    await cluster.restart();
    expect(cluster.manager.clusterId).toBe(clusterId);
    await cluster.advanceTime(5_000);
    const again = await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1' });
    expect(again.assignment!.ports).toEqual(one.assignment!.ports);
    expect(again.assignment!.tasks).toEqual(one.assignment!.tasks);
    expect(cluster.store.revision()).toBe(revision);
  });

  test('counts nodes that do not reconnect as down', async () => {
    await cluster.agent('node1');
    await cluster.restart();
    await cluster.advanceTime(32_000);
    expect((await nodes())[0]?.state).toBe('down');
  });
});

describe('plan', () => {
  test('requests a dry run of the future state from every node, and changes nothing', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { replicas: 1, ports: [tcp(80)] }));
    for (const node of [one, two]) await cluster.waitUntil(() => endpoints(node.assignment, 80).length === 1);
    const revision = cluster.store.revision();
    const services = [
      spec('web', { replicas: 3, ports: [tcp(80)] }),
      spec('new', { mode: 'global', ports: [tcp(81)] }),
    ];
    const reply = await cluster.control.plan({ services });
    expect(reply.services.map(({ action }) => action)).toEqual(['updated', 'created']);
    expect(reply.nodes).toMatchObject([
      { nodeName: 'node1', nodeId: one.nodeId, steps: ['ip link add'], error: '' },
      { nodeName: 'node2', nodeId: two.nodeId, steps: ['ip link add'], error: '' },
    ]);
    for (const { dryRuns: probes } of [one, two]) {
      expect(endpoints(probes[0], 80)).toHaveLength(3);
      expect(endpoints(probes[0], 81)).toHaveLength(2);
    }
    expect(one.dryRuns[0]!.tasks.length + two.dryRuns[0]!.tasks.length).toBe(5);
    expect(cluster.store.revision()).toBe(revision);
    const now = await cluster.control.plan({ services: [] });
    expect(now.services).toEqual([]);
    expect(one.dryRuns[1]!.ports).toEqual(one.assignment!.ports);
  });

  test('a node that does not reply or is not connected is shown with the reason', async () => {
    const one = await cluster.agent('node1');
    const two = await cluster.agent('node2');
    one.answersDryRuns = false;
    two.close();
    await cluster.advanceTime(200);
    const reply = cluster.control.plan({ services: [] });
    await cluster.waitUntil(() => one.dryRuns.length === 1);
    await cluster.advanceTime(5_000);
    expect((await reply).nodes.map(({ error }) => error)).toEqual([
      'node1 did not answer within 5 s',
      'node2 is not connected',
    ]);
  });
});

describe('watch', () => {
  test('sends all existing objects, then ready, then every change', async () => {
    await cluster.agent('node1');
    await cluster.apply(spec('a'));
    await cluster.waitUntil(async () => (await running('a')).length === 1);
    const events: string[] = [];
    const end = new AbortController();
    const watching = (async () => {
      for await (const { action, object } of cluster.control.watch(
        { services: true, tasks: true, nodes: true },
        { signal: end.signal },
      )) {
        const value = object?.value as { name?: string; serviceName?: string } | undefined;
        events.push(`${action} ${object?.case ?? ''} ${value?.name ?? value?.serviceName ?? ''}`.trim());
      }
    })();
    await cluster.waitUntil(() => events.includes('ready'));
    expect(events).toEqual(['current node node1', 'current service a', 'current task a', 'ready']);
    await cluster.control.scale({ targets: [{ service: 'a', replicas: 0 }] });
    await cluster.control.removeServices({ services: ['a'] });
    await cluster.waitUntil(() => events.includes('removed task a'));
    expect(events).toContain('updated service a');
    expect(events).toContain('removed service a');
    end.abort();
    await expect(watching).rejects.toMatchObject({ code: 'unavailable' });
  });
});

test('with IPv6 every task has an address of both families', async () => {
  const both = await testCluster({ families: ['inet', 'inet6'] });
  const one = await both.agent('node1');
  await both.apply(spec('web', { ports: [tcp(80)] }));
  await both.waitUntil(() => endpoints(one.assignment, 80).length === 2);
  expect(one.assignment!.tasks[0]!.addresses.map(({ address }) => address)).toEqual([
    '10.252.1.5',
    'fd6d:6573:6800:1::5',
  ]);
  await both.stop();
});

test('an IPv6-only cluster has no other addresses', async () => {
  const six = await testCluster({ families: ['inet6'] });
  const one = await six.agent('node1', { underlay: 'fd30::1' });
  await six.apply(spec('web', { ports: [tcp(80)] }));
  await six.waitUntil(() => endpoints(one.assignment, 80).length === 1);
  expect(one.assignment!.networks[0]!.subnets).toEqual([
    { family: 'inet6', cidr: 'fd6d:6573:6800::/48', block: 'fd6d:6573:6800:1::/64' },
  ]);
  expect(one.assignment!.tasks[0]!.addresses.map(({ address }) => address)).toEqual(['fd6d:6573:6800:1::5']);
  await six.stop();
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diff } from '../../src/diff/diff.ts';
import type { Op } from '../../src/model/kernel-state.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import type { Route } from '../../src/model/kinds/route.ts';
import { portMark } from '../../src/model/linux-names.ts';
import { endpoint, port } from '../../src/plan/assignments.test-data.ts';
import { actualListing, expectedListing } from './listings.ts';
import { applyState, assignment, errorMessages, findObject, ipvsOptions, measureChange, node } from './node.ts';
import { NETWORK, runShell, withoutIpvs } from './sandbox.ts';

/** How operations are executed: what counts as done, what a failure reports, what a change costs. */
export function testApply(): void {
  test('counts what exists already as done, after a new observation', async () => {
    const again = [...node.want.values()].map((object): Op => ({ verb: 'create', object }));
    const { failed } = await node.kernel.apply(again.filter(({ object }) => object.kind !== 'chain'));
    assert.deepEqual(errorMessages(failed), []);
    assert.deepEqual(diff(await node.kernel.observe(), node.want), []);
  });

  test('does not count as done what exists and differs', async () => {
    const fdb = findObject('fdb');
    const route = findObject('route', ({ via, netns }) => via !== undefined && netns === NETWORK);
    const wrong: Op[] = [
      { verb: 'create', object: { ...fdb, dst: '192.0.2.99' } },
      { verb: 'create', object: { ...route, via: '10.252.1.77' } },
    ];
    const { failed, done } = await node.kernel.apply(wrong);
    assert.equal(done.length, 0);
    assert.deepEqual(
      failed.map(({ error }) => /EEXIST/.test(error.message)),
      [true, true],
    );
  });

  test('counts the deletion of what does not exist as done', async () => {
    const removed: Op[] = [
      { verb: 'delete', object: { kind: 'address', netns: NETWORK, dev: 'lb0', address: '10.9.9.9', prefix: 32 } },
      { verb: 'delete', object: { kind: 'address', netns: NETWORK, dev: 'nolink', address: '10.9.9.9', prefix: 32 } },
      { verb: 'delete', object: { kind: 'address', netns: 'mesh-none', dev: 'x', address: '10.9.9.9', prefix: 32 } },
      { verb: 'delete', object: { ...findObject('route'), destination: '10.9.0.0/16' } },
      {
        verb: 'delete',
        object: { kind: 'fdb', netns: NETWORK, dev: 'vxlan0', mac: '02:00:00:00:00:99', dst: '192.0.2.9' },
      },
      {
        verb: 'delete',
        object: { kind: 'neighbour', netns: NETWORK, dev: 'vxlan0', address: '10.9.9.9', mac: '02:00:00:00:00:99' },
      },
      { verb: 'delete', object: { ...findObject('rule'), priority: 29_999, fwmark: 9999 } },
      { verb: 'delete', object: { kind: 'set-member', netns: 'host', set: 'mesh-pub-tcp', port: 9 } },
      { verb: 'delete', object: { kind: 'set-member', netns: 'host', set: 'mesh-none', port: 9 } },
      {
        verb: 'delete',
        object: {
          kind: 'ipset',
          netns: 'host',
          name: 'mesh-none',
          type: 'bitmap:port',
          range: { from: 0, to: 1 },
          skbinfo: false,
        },
      },
      { verb: 'delete', object: { kind: 'vxlan', ...vxlanFields(), name: 'vxlan9' } },
      { verb: 'delete', object: { kind: 'netns', netns: 'mesh-none', loopbackUp: true } },
      {
        verb: 'delete',
        object: { kind: 'chain', netns: 'host', family: 'inet', table: 'nat', chain: 'MESH-NONE', rules: [] },
      },
    ];
    if (!withoutIpvs) {
      removed.push(
        {
          verb: 'delete',
          object: {
            kind: 'virtual-service',
            netns: 'mesh-lb',
            family: 'inet',
            fwmark: portMark('tcp', 9),
            scheduler: 'rr',
          },
        },
        { verb: 'delete', object: { ...findObject('real-server'), port: 9999 } },
      );
    }
    const { failed } = await node.kernel.apply(removed);
    assert.deepEqual(errorMessages(failed), []);
    assert.deepEqual(diff(await node.kernel.observe(), node.want), []);
  });

  test('an added port costs three sends and no iptables run; a real server one send', ipvsOptions, async () => {
    const added = {
      ...assignment,
      ports: [
        ...assignment.ports,
        port('tcp', 9090, [endpoint(1, 1, 'inet', 80), endpoint(2, 1, 'inet', 80), endpoint(1, 1, 'inet6', 80)]),
      ],
    };
    const withPort = await measureChange(added);
    assert.deepEqual([withPort.sends, withPort.firewallRuns], [3, 0]);
    const more = structuredClone(added);
    more.ports.at(-1)?.endpoints.push(endpoint(3, 1, 'inet', 80));
    const withServer = await measureChange(more);
    assert.deepEqual([withServer.sends, withServer.messages], [1, 1]);
    more.ports.at(-1)!.endpoints.at(-1)!.weight = 0;
    const withWeight = await measureChange(structuredClone(more));
    assert.deepEqual([withWeight.sends, withWeight.messages], [1, 1]);
    assert.match(runShell('ip netns exec mesh-lb ipvsadm -Sn'), /-r 10\.252\.3\.5:80 -m -w 0/);
    const withoutServer = await measureChange(added);
    assert.deepEqual([withoutServer.sends, withoutServer.messages], [1, 1]);
    const counts = await node.kernel.connections('mesh-lb', [portMark('tcp', 9090)]);
    assert.deepEqual([...counts.keys()].sort(), ['10.252.1.5:80', '10.252.2.5:80', '[fd6d:65:73:1::5]:80']);
    const back = await measureChange(assignment);
    assert.deepEqual([back.sends, back.firewallRuns], [3, 0]);
    assert.deepEqual(actualListing('mesh-lb', { ipvs: true }), expectedListing('mesh-lb', node.want.values()));
  });

  test('continues after failures in the middle of a batch, and reports what failed and why', async () => {
    const address = (prefix: string, dev: string): Op => ({
      verb: 'create',
      object: { kind: 'address', netns: NETWORK, dev, address: `${prefix}.1`, prefix: 32 },
    });
    const member = (set: string, number: number): Op => ({
      verb: 'create',
      object: { kind: 'set-member', netns: 'host', set, port: number },
    });
    const route = (destination: string, via: string): Op => ({
      verb: 'create',
      object: {
        ...findObject('route', ({ netns, via: gateway }) => netns === NETWORK && gateway !== undefined),
        destination,
        via,
        onlink: false,
      },
    });
    const good = [
      address('10.1.1', 'lb0'),
      member('mesh-pub-udp', 7001),
      address('10.1.2', 'lb0'),
      member('mesh-pub-udp', 7002),
    ];
    const bad = [address('10.1.3', 'nolink'), member('mesh-none', 7003), route('10.66.0.0/16', '10.99.99.99')];
    const { done, failed } = await node.kernel.apply([
      good[0]!,
      bad[0]!,
      bad[2]!,
      good[2]!,
      good[1]!,
      bad[1]!,
      good[3]!,
    ]);
    assert.deepEqual(new Set(done), new Set(good));
    assert.deepEqual(new Set(failed.map(({ op }) => op)), new Set(bad));
    const messages = errorMessages(failed).join('\n');
    assert.match(messages, /ip -n mesh-net-ingress addr add 10\.1\.3\.1\/32 dev nolink: .*nolink/);
    assert.match(messages, /ipset add mesh-none 7003: ENOENT/);
    assert.match(messages, /route add 10\.66\.0\.0\/16 via 10\.99\.99\.99.*: ENETUNREACH \(.*[Nn]exthop.*\)/);
    await applyState(node.want);
  });

  test('names the module of a missing scheduler, and creates the services beside it', ipvsOptions, async () => {
    const service = (number: number, scheduler: string): Op => ({
      verb: 'create',
      object: { kind: 'virtual-service', netns: 'mesh-lb', family: 'inet', fwmark: portMark('tcp', number), scheduler },
    });
    const { done, failed } = await node.kernel.apply([
      service(7001, 'rr'),
      service(7002, 'nosuch'),
      service(7003, 'rr'),
    ]);
    assert.equal(done.length, 2);
    assert.match(errorMessages(failed).join(), /ipvsadm -A -f 72538 -s nosuch: ENOENT.*modprobe ip_vs_nosuch/);
    await applyState(node.want);
  });

  test('sends thousands of objects in few sends', async () => {
    const routes = Array.from(
      { length: 4000 },
      (_, i): Route => ({
        ...findObject('route', ({ netns, via }) => netns === NETWORK && via === undefined),
        destination: `10.66.${i >> 8}.${i & 0xff}/32`,
      }),
    );
    const mixed = routes.flatMap((object, i): Op[] => {
      const good: Op = { verb: 'create', object };
      // Every eighth is followed by one whose gateway is unreachable.
      return i % 8 === 0 ? [good, { verb: 'create', object: { ...object, via: '10.250.0.1' } }] : [good];
    });
    const report = await node.kernel.apply(mixed);
    assert.equal(report.done.length, routes.length);
    assert.equal(report.failed.length, routes.length / 8);
    assert.ok(report.sends < 20, `${report.sends} sends`);
    assert.equal(runShell(`ip -n ${NETWORK} -4 route show proto 109 dev lb0 | grep -c '^10.66'`).trim(), '4000');
    await applyState(node.want);
  });
}

function vxlanFields(): Omit<Extract<KernelObject, { kind: 'vxlan' }>, 'kind'> {
  const { kind: _, ...fields } = findObject('vxlan');
  return fields;
}

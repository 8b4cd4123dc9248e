import { describe, expect, it } from 'vitest';
import type { AssignedPort, Assignment } from '../model/assignment.ts';
import { keyOf, type Op, stateOf } from '../model/kernel-state.ts';
import type { RealServer } from '../model/kinds/real-server.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { renderOp } from '../model/render.ts';
import { CAPABILITIES, endpoint, peer, port, task, threeNodes } from '../plan/assignments.test-data.ts';
import { plan } from '../plan/plan.ts';
import { diff } from './diff.ts';

const BASE = threeNodes(['inet']);

function steps(before: Assignment, after: Assignment): string[] {
  return diff(plan(before, CAPABILITIES), plan(after, CAPABILITIES)).flatMap(renderOp);
}

function withPort(changed: AssignedPort): Assignment {
  return { ...BASE, ports: [changed, ...BASE.ports.slice(1)] };
}

function altered(key: string, fields: object): Op[] {
  const want = plan(BASE, CAPABILITIES);
  const have = new Map(want).set(key, { ...want.get(key)!, ...fields } as KernelObject);
  return diff(have, want);
}

describe('diff', () => {
  it('of a state with itself is empty', () => {
    expect(diff(plan(BASE, CAPABILITIES), plan(structuredClone(BASE), CAPABILITIES))).toEqual([]);
  });

  it('builds a port from the back to the front, and takes it down from the front', () => {
    const added = { ...BASE, ports: [...BASE.ports, port('tcp', 9000, [endpoint(2, 1, 'inet', 80)])] };
    expect(steps(BASE, added)).toEqual([
      'ip netns exec mesh-lb ipvsadm -A -f 74536 -s rr',
      'ip netns exec mesh-lb ipvsadm -a -f 74536 -r 10.252.2.5:80 -m -w 1',
      'ip netns exec mesh-lb ipset add mesh-svc-tcp 9000 skbmark 0x12328',
      'ipset add mesh-pub-tcp 9000',
    ]);
    expect(steps(added, BASE)).toEqual([
      'ipset del mesh-pub-tcp 9000',
      'ip netns exec mesh-lb ipset del mesh-svc-tcp 9000',
      'ip netns exec mesh-lb ipvsadm -D -f 74536',
    ]);
  });

  it('gives weight before it takes weight, and adds before it removes', () => {
    const before = withPort(
      port('tcp', 8080, [endpoint(1, 1, 'inet', 80, 1), endpoint(1, 2, 'inet', 80, 0), endpoint(1, 3, 'inet', 80)]),
    );
    const after = withPort(
      port('tcp', 8080, [endpoint(1, 1, 'inet', 80, 0), endpoint(1, 2, 'inet', 80, 1), endpoint(1, 4, 'inet', 80)]),
    );
    expect(steps(before, after)).toEqual([
      'ip netns exec mesh-lb ipvsadm -e -f 73616 -r 10.252.1.6:80 -m -w 1',
      'ip netns exec mesh-lb ipvsadm -a -f 73616 -r 10.252.1.8:80 -m -w 1',
      'ip netns exec mesh-lb ipvsadm -e -f 73616 -r 10.252.1.5:80 -m -w 0',
      'ip netns exec mesh-lb ipvsadm -d -f 73616 -r 10.252.1.7:80',
    ]);
  });

  it('deletes nothing that dies with its parent: a task is its veth and its netns', () => {
    expect(steps(BASE, { ...BASE, tasks: [] })).toEqual([
      'ip -n mesh-net-ingress link del t-aaaaaaaaaaaa',
      'ip netns delete mesh-task-aaaaaaaaaaaa',
    ]);
  });

  it('has the path to a task before its weight', () => {
    const grown = {
      ...withPort(
        port('tcp', 8080, [
          endpoint(1, 1, 'inet', 80),
          endpoint(2, 1, 'inet', 80),
          endpoint(1, 2, 'inet', 80),
          endpoint(4, 1, 'inet', 80),
        ]),
      ),
      tasks: [...BASE.tasks, task('bbbbbbbbbbbb', 1, 2, ['inet'])],
      peers: [...BASE.peers, peer(4, ['inet'])],
    };
    const order = diff(plan(BASE, CAPABILITIES), plan(grown, CAPABILITIES)).map(({ object }) => object.kind);
    expect(order.lastIndexOf('rule')).toBeLessThan(order.indexOf('real-server'));
    expect(new Set(order.slice(order.indexOf('real-server')))).toEqual(new Set(['real-server']));
  });

  it('makes a replaced link whole again, with everything that lived on it', () => {
    const ops = altered('link mesh-net-ingress vxlan0', { vni: 77 });
    expect(ops[0]).toMatchObject({ verb: 'delete', object: { kind: 'vxlan', vni: 77 } });
    expect(ops.slice(1).every(({ verb }) => verb === 'create')).toBe(true);
    const onVxlan = [...plan(BASE, CAPABILITIES).values()].filter(
      (object) => 'dev' in object && object.dev === 'vxlan0' && object.netns === 'mesh-net-ingress',
    );
    const made = new Set(ops.slice(1).map(({ object }) => keyOf(object)));
    for (const object of onVxlan) expect(made).toContain(keyOf(object));
    expect(made).toContain('sysctl mesh-net-ingress net.ipv4.conf.vxlan0.rp_filter');
    expect(made.size).toBe(onVxlan.length + 2);
  });

  it('takes chains away before a set they hold on to, and only for a replacement', () => {
    const verbs = altered('ipset host mesh-pub-tcp', { skbinfo: true }).map(
      ({ verb, object }) => `${verb} ${object.kind}`,
    );
    expect(verbs.slice(0, verbs.indexOf('create ipset'))).toEqual([
      'delete jump',
      'delete jump',
      'delete chain',
      'delete chain',
      'delete ipset',
    ]);
    expect(verbs.slice(verbs.indexOf('create ipset'))).toEqual([
      'create ipset',
      'create chain',
      'create chain',
      'create jump',
      'create jump',
      'create set-member',
    ]);
  });

  it('changes in place what the kernel can change', () => {
    expect(altered('link host mesh0', { mtu: 9000 }).map(({ verb }) => verb)).toEqual(['change']);
    expect(
      altered('jump host inet nat PREROUTING MESH-PREROUTING', { position: 'last' }).map(({ verb }) => verb),
    ).toEqual(['change']);
  });

  it('has no other rule for a wrong one: the right one is made first, whatever else has its priority', () => {
    const want = plan(BASE, CAPABILITIES);
    const right = [...want.values()].find((object) => object.kind === 'rule' && object.priority === 10_002)!;
    const wrong = { ...right, fwmark: 5 } as KernelObject;
    const have = new Map(want);
    have.delete(keyOf(right));
    have.set(keyOf(wrong), wrong);
    expect(diff(have, want)).toEqual([
      { verb: 'create', object: right },
      { verb: 'delete', object: wrong },
    ]);
  });

  it('never unsets a sysctl', () => {
    const setting: KernelObject = { kind: 'sysctl', netns: 'host', name: 'net.ipv4.ip_forward', value: '1' };
    expect(diff(stateOf([setting]), new Map())).toEqual([]);
    expect(diff(stateOf([{ kind: 'ipvs-timeouts', netns: 'mesh-lb', tcp: 1, tcpFin: 1, udp: 1 }]), new Map())).toEqual(
      [],
    );
  });

  it('takes a parent that is in neither cut-out to exist', () => {
    const server: RealServer = {
      kind: 'real-server',
      netns: 'mesh-lb',
      family: 'inet',
      fwmark: 73616,
      address: '10.252.2.6',
      port: 80,
      weight: 1,
    };
    expect(diff(new Map(), stateOf([server]))).toEqual([{ verb: 'create', object: server }]);
    expect(diff(stateOf([server]), new Map())).toEqual([{ verb: 'delete', object: server }]);
  });

  it('is done with 20 000 ports one by one or at once', () => {
    const many = Array.from({ length: 20_000 }, (_, index) => port('tcp', index + 1, [endpoint(2, 1, 'inet', 80)]));
    const ops = diff(plan(BASE, CAPABILITIES), plan({ ...BASE, ports: many }, CAPABILITIES));
    expect(ops.filter(({ verb, object }) => verb === 'create' && object.kind === 'virtual-service')).toHaveLength(
      19_999,
    );
  });
});

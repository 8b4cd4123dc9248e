import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diff } from '../diff/diff.ts';
import type { Family } from '../model/address.ts';
import type { AssignedPort, Endpoint } from '../model/assignment.ts';
import { applyAssignmentDelta, assignmentDelta } from '../model/assignment-delta.ts';
import { addressAt } from '../model/block.ts';
import { stateOf } from '../model/kernel-state.ts';
import { keyedAssignment } from '../model/keyed-assignment.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { renderOp } from '../model/render.ts';
import {
  anyAssignment,
  anyFamilies,
  CAPABILITIES,
  emptyAssignment,
  endpoint,
  port,
  task,
  threeNodes,
} from './assignments.test-data.ts';
import { plan, planDelta } from './plan.ts';

const kinds = (objects: Iterable<KernelObject>, kind: KernelObject['kind']) =>
  [...objects].filter((object) => object.kind === kind);

describe('plan', () => {
  it.each([
    ['inet', ['inet']],
    ['dual-stack', ['inet', 'inet6']],
  ] as const)('builds node 1 of three in these words (%s)', async (name, families) => {
    const words = diff(new Map(), plan(threeNodes(families), CAPABILITIES)).flatMap(renderOp);
    await expect(`${words.join('\n')}\n`).toMatchFileSnapshot(`golden/three-nodes-${name}.sh`);
  });

  it('adds the fast path with these commands, and removes nothing for it', async () => {
    const assignment = threeNodes(['inet', 'inet6']);
    const plain = plan(assignment, CAPABILITIES);
    for (const [name, fastPath] of [
      ['inside', {}],
      ['full', { link: 'eth0' }],
    ] as const) {
      const ops = diff(plain, plan(assignment, { ...CAPABILITIES, fastPath }));
      expect(ops.filter(({ verb }) => verb === 'delete')).toEqual([]);
      await expect(`${ops.flatMap(renderOp).join('\n')}\n`).toMatchFileSnapshot(`golden/fast-path-${name}.sh`);
    }
  });

  it.each([
    ['restricted clients', { allowFrom: ['192.0.2.0/24'] }],
    ['restricted addresses', { addresses: ['192.0.2.1/32'] }],
    ['affinity', { persistence: { timeout: 60_000, prefix: { inet: 32, inet6: 128 } } }],
    ['no endpoints', { endpoints: [] }],
    ['endpoints of IPv6 alone', { endpoints: [endpoint(2, 1, 'inet6', 80)] }],
    ['another protocol', { protocol: 'sctp' as const }],
  ])('leaves a port with %s to the plain path', (_, change) => {
    const facts = { ...CAPABILITIES, fastPath: { link: 'eth0' } };
    const fastPathPorts = (one: Partial<AssignedPort>) => {
      const assignment = threeNodes(['inet']);
      assignment.ports = [{ ...assignment.ports[0]!, ...one }];
      return kinds(plan(assignment, facts).values(), 'fast-path-port');
    };
    expect(fastPathPorts({})).toHaveLength(1);
    expect(fastPathPorts(change)).toEqual([]);
  });

  it('has no fast path in a cluster of IPv6 alone', () => {
    const assignment = threeNodes(['inet6']);
    const short = plan(assignment, { ...CAPABILITIES, fastPath: { link: 'eth0' } });
    expect([...short]).toEqual([...plan(assignment, CAPABILITIES)]);
  });

  it('is the same for the same assignment, in the same order', () => {
    fc.assert(
      fc.property(
        anyFamilies.chain((families) => anyAssignment(families)),
        (assignment) => {
          expect([...plan(assignment, CAPABILITIES)]).toEqual([...plan(structuredClone(assignment), CAPABILITIES)]);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('is empty without the ingress network, or without a supported family', () => {
    expect(plan({ ...threeNodes(['inet']), networks: [] }, CAPABILITIES).size).toBe(0);
    expect(plan(threeNodes(['inet6']), { ...CAPABILITIES, families: ['inet'] }).size).toBe(0);
  });

  it('leaves out a family that the kernel does not support', () => {
    const facts = { ...CAPABILITIES, families: ['inet'] as const };
    const both = threeNodes(['inet', 'inet6']);
    const strip = (addresses: { address: string }[]) => addresses.filter(({ address }) => !address.includes(':'));
    const text = JSON.stringify([...plan(both, facts).values()]);
    expect(text).not.toContain('fd6d');
    expect(text).not.toContain('inet6');
    expect(strip(both.tasks[0]!.addresses)).toHaveLength(1);
  });

  it('subtracts the encapsulation overhead from the MTU, more for IPv6', () => {
    const mtuOf = (underlay: string) => {
      const assignment = threeNodes(['inet']);
      const links = plan({ ...assignment, self: { ...assignment.self, underlay } }, CAPABILITIES).values();
      return [...links].flatMap((object) =>
        object.kind === 'veth' ? [object.mtu, object.peer.mtu] : object.kind === 'vxlan' ? object.mtu : [],
      );
    };
    expect(new Set(mtuOf('192.0.2.1'))).toEqual(new Set([1450]));
    expect(new Set(mtuOf('2001:db8::1'))).toEqual(new Set([1430]));
  });

  it('changes no sysctls of the host but forwarding and those of our veth', () => {
    const host = kinds(plan(threeNodes(['inet', 'inet6']), CAPABILITIES).values(), 'sysctl').filter(
      ({ netns }) => netns === 'host',
    );
    expect(host.map((object) => object.kind === 'sysctl' && object.name)).toEqual([
      'net.ipv4.ip_forward',
      'net.ipv4.conf.mesh0.route_localnet',
      'net.ipv6.conf.all.forwarding',
      'net.ipv6.conf.mesh0.accept_dad',
    ]);
  });

  it('disables connection reuse on kernels where it costs a second (before 5.9)', () => {
    const reuse = (major: number, minor: number) =>
      plan(threeNodes(['inet']), { ...CAPABILITIES, kernel: { major, minor } }).get(
        'sysctl mesh-lb net.ipv4.vs.conn_reuse_mode',
      );
    expect([reuse(5, 8), reuse(5, 9), reuse(6, 0), reuse(4, 19)]).toMatchObject([
      { value: '0' },
      { value: '1' },
      { value: '1' },
      { value: '0' },
    ]);
  });

  it('keeps a port without tasks published, without real servers', () => {
    const objects = plan({ ...emptyAssignment(1, ['inet', 'inet6']), ports: [port('udp', 53, [])] }, CAPABILITIES);
    expect(kinds(objects.values(), 'virtual-service')).toHaveLength(2);
    expect(kinds(objects.values(), 'real-server')).toHaveLength(0);
    expect(kinds(objects.values(), 'set-member')).toHaveLength(2);
  });

  it('finds SCTP ports by address; the lb itself refuses one without tasks', () => {
    const planned = (endpoints: Endpoint[], families: Family[] = ['inet']) => {
      const want = plan({ ...emptyAssignment(1, families), ports: [port('sctp', 53, endpoints)] }, CAPABILITIES);
      expect(kinds(want.values(), 'set-member')).toEqual([]); // bitmap:port supports TCP and UDP only
      expect(kinds(want.values(), 'set-entry').map((entry) => 'set' in entry && entry.set)).toContain('mesh-from-4');
      return kinds(want.values(), 'virtual-service').map((service) => 'at' in service && service.at);
    };
    expect(planned([])).toEqual([]);
    expect(planned([endpoint(2, 1, 'inet', 53)])).toEqual(['10.252.1.2']);
    expect(planned([endpoint(2, 1, 'inet', 53)], ['inet', 'inet6'])).toEqual(['10.252.1.2']);
  });

  it('drains TCP by weight 0 and removes UDP at once, in host mode too', () => {
    const drained = [endpoint(1, 1, 'inet', 80, 0)];
    const of = (protocol: 'tcp' | 'udp' | 'sctp') =>
      kinds(
        plan({ ...emptyAssignment(1, ['inet']), ports: [port(protocol, 80, drained)] }, CAPABILITIES).values(),
        'real-server',
      );
    expect(of('tcp')).toMatchObject([{ weight: 0 }]);
    expect(of('sctp')).toMatchObject([{ weight: 0 }]);
    expect(of('udp')).toEqual([]);
    const planned = (mode: 'ingress' | 'host') =>
      plan({ ...emptyAssignment(1, ['inet']), ports: [{ ...port('tcp', 80, drained), mode }] }, CAPABILITIES);
    expect(planned('host')).toEqual(planned('ingress'));
  });
});

describe('planDelta', () => {
  it('results in the same steps as two complete plans', () => {
    fc.assert(
      fc.property(
        anyFamilies.chain((families) => fc.tuple(anyAssignment(families), anyAssignment(families))),
        ([before, after]) => {
          const delta = assignmentDelta(before, { ...after, revision: before.revision + 1 })!;
          const { have, want } = planDelta(keyedAssignment(before), delta, CAPABILITIES);
          expect(diff(stateOf(have), stateOf(want))).toEqual(
            diff(plan(before, CAPABILITIES), plan(after, CAPABILITIES)),
          );
        },
      ),
      { numRuns: 200 },
    );
  });

  it('plans only what a delta touches', () => {
    const ports = Array.from({ length: 20_000 }, (_, index) => port('tcp', index + 1, [endpoint(2, 1, 'inet', 80)]));
    const before = { ...threeNodes(['inet']), ports };
    const changed = port('tcp', 777, [endpoint(2, 1, 'inet', 80), endpoint(3, 1, 'inet', 80)]);
    const delta = assignmentDelta(before, { ...before, revision: 2, ports: ports.with(776, changed) })!;
    const { have, want } = planDelta(keyedAssignment(before), delta, CAPABILITIES);
    expect([have.length, want.length]).toEqual([4, 5]);
    const after = applyAssignmentDelta(before, delta);
    expect(after.ok && after.value.ports[776]).toEqual(changed);
  });

  it('changes nothing else when a task is added', () => {
    const before = threeNodes(['inet']);
    const after = { ...before, revision: 2, tasks: [...before.tasks, task('bbbbbbbbbbbb', 1, 2, ['inet'])] };
    const { have, want } = planDelta(keyedAssignment(before), assignmentDelta(before, after)!, CAPABILITIES);
    expect(have).toEqual([]);
    expect(new Set(want.map(({ netns }) => netns))).toEqual(new Set(['mesh-task-bbbbbbbbbbbb', 'mesh-net-ingress']));
  });
});

describe('addressAt', () => {
  it('counts within a block, with carry, in canonical text', () => {
    expect(addressAt('10.252.1.0/24', 0)).toBe('10.252.1.0');
    expect(addressAt('10.252.0.0/16', 300)).toBe('10.252.1.44');
    expect(addressAt('10.252.1.128/25', 5)).toBe('10.252.1.133');
    expect(addressAt('fd6d:65:73:1::/64', 0)).toBe('fd6d:65:73:1::');
    expect(addressAt('fd6d:65:73:1::/64', 65_535)).toBe('fd6d:65:73:1::ffff');
    expect(addressAt('fd6d:65:73:1::/112', 18)).toBe('fd6d:65:73:1::12');
  });
});

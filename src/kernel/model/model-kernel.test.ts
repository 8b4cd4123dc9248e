import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dependencies, providedNames } from '../../diff/dependencies.ts';
import { diff } from '../../diff/diff.ts';
import type { Family } from '../../model/address.ts';
import type { AssignedPort, Assignment } from '../../model/assignment.ts';
import { type KernelState, keyOf, type Op, stateOf } from '../../model/kernel-state.ts';
import { parseFirewallRule } from '../../model/kinds/parse-firewall-rule.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import {
  HOST_LINK,
  HOST_NETNS,
  LB_NETNS,
  NET_LB_LINK,
  publishedSet,
  serviceSet,
  VXLAN_LINK,
} from '../../model/linux-names.ts';
import {
  anyAssignment,
  anyFamilies,
  CAPABILITIES,
  endpoint,
  port,
  threeNodes,
} from '../../plan/assignments.test-data.ts';
import { plan } from '../../plan/plan.ts';
import { createModelKernel, type ModelKernel } from './model-kernel.ts';
import { createModelState } from './model-rules.ts';
import { playScript } from './play-script.ts';

/** The same object after a change by another program: the same key, or one of our names in a wrong place. */
function damaged(object: KernelObject, how: number): KernelObject {
  switch (object.kind) {
    case 'netns':
      return { ...object, loopbackUp: false };
    case 'veth': {
      const peer = { ...object.peer, name: how % 2 === 0 ? 'stray0' : object.peer.name, up: false };
      return how % 3 === 0 ? { ...object, name: 'stray1' } : { ...object, mtu: 1000, up: false, peer };
    }
    case 'vxlan':
      return how % 2 === 0 ? { ...object, vni: 77 } : { ...object, mtu: 1000, up: false };
    case 'sysctl':
      return { ...object, value: '7' };
    case 'address':
      return { ...object, prefix: 24 };
    case 'neighbour':
      return { ...object, mac: '02:00:00:00:00:00' };
    case 'fdb':
      return { ...object, dst: '198.51.100.1' };
    case 'route':
      return how % 2 === 0 ? { ...object, table: 99 } : { ...object, onlink: true, via: '10.252.77.0' };
    case 'rule':
      return how % 2 === 0 ? { ...object, priority: object.priority + 1 } : { ...object, fwmark: 99 };
    case 'host-rule':
      return { ...object, priority: object.priority + 1 };
    case 'ipset':
      if (how % 2 === 0) return { ...object, skbinfo: !object.skbinfo };
      return object.type === 'bitmap:port'
        ? { ...object, range: { from: 0, to: 1023 } }
        : { ...object, type: object.type === 'hash:ip' ? 'hash:net,port' : 'hash:ip' };
    case 'set-member': {
      const { mark, ...rest } = object;
      return how % 2 === 0 || mark === undefined ? { ...object, port: 4000 + how } : { ...rest, mark: 3 };
    }
    case 'set-entry':
      if (how % 3 === 0) return { ...object, foreign: ['nomatch'] };
      return how % 3 === 1 && object.port !== undefined
        ? { ...object, port: 4000 + how }
        : { ...object, network: STRAY };
    case 'chain':
      if (object.administrator) return object;
      return how % 2 === 0 ? { ...object, rules: object.rules.slice(1) } : { ...object, chain: 'MESH-STRAY' };
    case 'jump':
      return { ...object, position: 'last' };
    case 'ipvs-timeouts':
      return { ...object, tcp: 900 };
    case 'virtual-service':
      return how % 2 === 0 ? { ...object, scheduler: 'sh' } : { ...object, fwmark: 9 };
    case 'real-server':
      return how % 2 === 0 ? { ...object, weight: 17 } : { ...object, port: 9999 };
    case 'fast-path': {
      const { program: _, ...filter } = object;
      return { ...filter, foreign: ['another program'] };
    }
    case 'fast-path-task':
      return how % 2 === 0 ? { ...object, link: 'unknown' } : { ...object, address: '10.252.1.99' };
    case 'fast-path-port':
      return { ...object, mark: 0x1_0009 };
    case 'fast-path-peer':
      return { ...object, address: '198.51.100.7' };
  }
}

const STRAY = '198.51.100.7/32';
const VICTIM = fc.record({ keep: fc.nat(5), damage: fc.nat(9), how: fc.nat(50) });

/** What the kernel holds after another program removed, changed and doubled objects. */
function corrupted(state: KernelState, fate: readonly { keep: number; damage: number; how: number }[]): KernelObject[] {
  const objects = [...state.values()].flatMap((object, index): KernelObject[] => {
    const { keep, damage, how } = fate[index % fate.length]!;
    if (keep === 0) return [];
    if (damage === 0) return [damaged(object, how)];
    return damage === 1 ? [object, damaged(object, how)] : [object];
  });
  // The kernel itself refuses what has no parent or a name that exists.
  const kernel = createModelState();
  for (const op of diff(new Map(), stateOf(objects))) kernel.step(op);
  return [...kernel.objects.values()];
}

const FOREIGN: KernelObject[] = [
  {
    kind: 'veth',
    netns: HOST_NETNS,
    name: 'docker0',
    mtu: 1500,
    up: true,
    peer: { netns: HOST_NETNS, name: 'x', mtu: 1500, up: true },
  },
  {
    kind: 'chain',
    netns: HOST_NETNS,
    family: 'inet',
    table: 'nat',
    chain: 'MESH-USER',
    rules: [parseFirewallRule('-j RETURN')],
  },
  { kind: 'virtual-service', netns: HOST_NETNS, family: 'inet', fwmark: 7, scheduler: 'rr' },
];

/** Settings cannot be deleted: they keep their last value. */
function withoutSettings(state: KernelState): KernelState {
  return new Map([...state].filter(([, object]) => object.kind !== 'sysctl' && object.kind !== 'ipvs-timeouts'));
}

const anyPair = anyFamilies.chain((families) =>
  fc.record({
    before: anyAssignment(families),
    after: fc.constantFrom(1, 6).chain((self) => anyAssignment(families, self)),
    fate: fc.array(VICTIM, { minLength: 7, maxLength: 61 }),
  }),
);

/** The plan of a node, with the fast path wherever it could be. */
function planned(assignment: Assignment): KernelState {
  const plain = plan(assignment, CAPABILITIES);
  const fastPaths = [...plain.values()].flatMap((object): KernelObject[] => {
    const { netns } = object;
    if (object.kind === 'set-member' && object.mark !== undefined) {
      return [{ kind: 'fast-path-port', netns: HOST_NETNS, mark: object.mark }];
    }
    if (object.kind === 'fdb') return [{ kind: 'fast-path-peer', netns: HOST_NETNS, address: object.dst }];
    if (object.kind === 'vxlan')
      return [{ kind: 'fast-path', netns, link: object.name, program: { type: 'router-in' } }];
    if (object.kind !== 'veth') return [];
    if (object.name === HOST_LINK) {
      const address = assignment.self.underlay;
      return [
        {
          kind: 'fast-path',
          netns,
          link: 'eth0',
          program: { type: 'host-in', address, lb: HOST_LINK, router: HOST_LINK, vni: 4096, number: 1 },
        },
        {
          kind: 'fast-path',
          netns,
          link: 'eth0',
          egress: true,
          program: { type: 'host-sent', address, lb: HOST_LINK },
        },
        { kind: 'fast-path', netns, link: HOST_LINK, program: { type: 'host-out', address } },
      ];
    }
    if (netns === LB_NETNS) {
      return [{ kind: 'fast-path', netns: object.peer.netns, link: object.peer.name, program: { type: 'router-in' } }];
    }
    const { number } = assignment.self;
    const program = { type: 'task-out', vxlan: VXLAN_LINK, lb: NET_LB_LINK, number } as const;
    return [
      { kind: 'fast-path', netns, link: object.name, program },
      { kind: 'fast-path-task', netns, address: `10.9.9.${object.name.length}`, link: object.name },
    ];
  });
  return stateOf([...plain.values(), ...fastPaths]);
}

describe('diff on a kernel with rules', () => {
  it('restores the desired state from any other, without a rejected operation', async () => {
    await fc.assert(
      fc.asyncProperty(anyPair, async ({ before, after, fate }) => {
        const kernel = createModelKernel({ objects: corrupted(plan(before, CAPABILITIES), fate), foreign: FOREIGN });
        const have = await kernel.observe();
        const want = plan(after, CAPABILITIES);
        const ops = diff(have, want);

        for (const op of ops) expect(have.has(keyOf(op.object)) || want.has(keyOf(op.object))).toBe(true);
        const report = await kernel.apply(ops);
        expect(report.failed.map(({ error }) => error.message)).toEqual([]);
        const now = await kernel.observe();
        expect(withoutSettings(now)).toEqual(withoutSettings(want));
        expect(diff(now, want)).toEqual([]);
        expect(kernel.foreign()).toEqual(FOREIGN);
      }),
      { numRuns: 200 },
    );
  });

  it('and with the fast path, on and off again', async () => {
    await fc.assert(
      fc.asyncProperty(anyPair, async ({ before, after, fate }) => {
        const kernel = createModelKernel({ objects: corrupted(planned(before), fate) });
        for (const want of [planned(after), plan(after, CAPABILITIES)]) {
          const { failed } = await kernel.apply(diff(await kernel.observe(), want));
          expect(failed.map(({ error }) => error.message)).toEqual([]);
          expect(diff(await kernel.observe(), want)).toEqual([]);
        }
        const want = planned(after);
        const desiredNames = new Set([...want.values()].flatMap(providedNames));
        const there = new Set<string>();
        for (const { object } of diff(new Map(), want)) {
          for (const name of dependencies(object)) if (desiredNames.has(name)) expect(there).toContain(name);
          for (const name of providedNames(object)) there.add(name);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('removes everything when nothing is desired', async () => {
    await fc.assert(
      fc.asyncProperty(anyPair, async ({ before, fate }) => {
        const kernel = createModelKernel({ objects: corrupted(plan(before, CAPABILITIES), fate), foreign: FOREIGN });
        const report = await kernel.apply(diff(await kernel.observe(), new Map()));
        expect(report.failed).toEqual([]);
        expect(withoutSettings(kernel.state()).size).toBe(0);
        expect(kernel.foreign()).toEqual(FOREIGN);
      }),
      { numRuns: 100 },
    );
  });

  it('converges despite refusals, and crashes between two operations', async () => {
    await fc.assert(
      fc.asyncProperty(anyPair, fc.nat(), async ({ before, after, fate }, seed) => {
        const kernel = createModelKernel({ objects: corrupted(plan(before, CAPABILITIES), fate) });
        kernel.setFaults({ seed, refuse: 0.05, crash: 0.02 });
        const want = plan(after, CAPABILITIES);
        for (let round = 0; round < 5; round++) {
          await kernel
            .apply(diff(await kernel.observe(), want))
            .catch((error: Error) => expect(error.message).toMatch(/crash/));
        }
        kernel.setFaults(undefined);
        await kernel.apply(diff(await kernel.observe(), want));
        expect(diff(await kernel.observe(), want)).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  it('builds nothing before what it depends on', () => {
    fc.assert(
      fc.property(
        anyFamilies.chain((families) => anyAssignment(families)),
        (assignment) => {
          const want = plan(assignment, CAPABILITIES);
          const desiredNames = new Set([...want.values()].flatMap(providedNames));
          const there = new Set<string>();
          for (const { object } of diff(new Map(), want)) {
            for (const name of dependencies(object)) if (desiredNames.has(name)) expect(there).toContain(name);
            for (const name of providedNames(object)) there.add(name);
          }
        },
      ),
      { numRuns: 50 },
    );
  });
});

/** Whether a new connection to the port, accepted by the host, reaches a real server. */
function answers(state: KernelState, assignment: Assignment, family: Family, index: number): boolean {
  const { protocol, published } = assignment.ports[index]!;
  const entry = state.get(`set-member ${LB_NETNS} ${serviceSet(protocol)} ${published}`);
  if (entry?.kind !== 'set-member' || !state.has(`set-member ${HOST_NETNS} ${publishedSet(protocol)} ${published}`)) {
    return false;
  }
  return [...state.values()].some(
    (object) =>
      object.kind === 'real-server' && object.family === family && object.fwmark === entry.mark && object.weight > 0,
  );
}

function reweighted(ports: readonly AssignedPort[], weights: readonly number[]): AssignedPort[] {
  let next = 0;
  return ports.map((item) => ({
    ...item,
    endpoints: item.endpoints.map((one) => ({ ...one, weight: weights[next++ % weights.length]! })),
  }));
}

describe('make before break', () => {
  const anyScale = anyFamilies.chain((families) =>
    fc.record({
      families: fc.constant(families),
      before: anyAssignment(families),
      ports: anyAssignment(families).map(({ ports }) => ports),
      weights: fc.option(fc.array(fc.nat(1), { minLength: 3, maxLength: 9 })),
      tasks: anyAssignment(families).map(({ tasks }) => tasks),
      peers: anyAssignment(families).map(({ peers }) => peers),
    }),
  );

  it('no operation of a scale change leaves a port without a path that has one before and after', async () => {
    await fc.assert(
      fc.asyncProperty(anyScale, async ({ families, before, weights, tasks, peers, ...other }) => {
        // Either other ports, or the same ones with other weights.
        const ports = weights === null ? other.ports : reweighted(before.ports, weights);
        const after: Assignment = { ...before, ports, tasks, peers };
        const want = plan(after, CAPABILITIES);
        const kernel = createModelKernel({ objects: plan(before, CAPABILITIES).values() });
        const live = after.ports.flatMap((_, index) =>
          families.flatMap((family) =>
            answers(kernel.state(), after, family, index) && answers(want, after, family, index)
              ? [{ family, index }]
              : [],
          ),
        );
        kernel.onStep((_, state) => {
          for (const { family, index } of live) expect(answers(state, after, family, index)).toBe(true);
        });
        const { failed } = await kernel.apply(diff(await kernel.observe(), want));
        expect(failed).toEqual([]);
      }),
      { numRuns: 150 },
    );
  });

  it('publishes a port only when it answers, and removes it before it stops answering', async () => {
    const families: Family[] = ['inet', 'inet6'];
    const without: Assignment = { ...threeNodes(families), ports: [] };
    const withPort: Assignment = {
      ...without,
      ports: [port('tcp', 8080, [endpoint(1, 1, 'inet', 80), endpoint(1, 1, 'inet6', 80)])],
    };
    const kernel = createModelKernel({ objects: plan(without, CAPABILITIES).values() });
    let seen = 0;
    kernel.onStep((_, state) => {
      if (!state.has('set-member host mesh-pub-tcp 8080')) return;
      seen++;
      for (const family of families) expect(answers(state, withPort, family, 0)).toBe(true);
    });
    await kernel.apply(diff(await kernel.observe(), plan(withPort, CAPABILITIES)));
    await kernel.apply(diff(await kernel.observe(), plan(without, CAPABILITIES)));
    expect(seen).toBe(1);
    expect(diff(await kernel.observe(), plan(without, CAPABILITIES))).toEqual([]);
  });

  it('an added port is three batches and no firewall run, in a cluster of any size', async () => {
    const before = threeNodes(['inet', 'inet6']);
    const added = port('tcp', 9000, [
      endpoint(1, 1, 'inet', 80),
      endpoint(2, 1, 'inet', 80),
      endpoint(2, 1, 'inet6', 80),
    ]);
    const kernel = createModelKernel({ objects: plan(before, CAPABILITIES).values() });
    const report = await kernel.apply(
      diff(await kernel.observe(), plan({ ...before, ports: [...before.ports, added] }, CAPABILITIES)),
    );
    expect({ sends: report.sends, firewallRuns: report.firewallRuns }).toEqual({ sends: 3, firewallRuns: 0 });
    const removal = await kernel.apply(diff(await kernel.observe(), plan(before, CAPABILITIES)));
    expect({ sends: removal.sends, firewallRuns: removal.firewallRuns }).toEqual({ sends: 3, firewallRuns: 0 });
  });
});

describe('the model kernel', () => {
  const objects = () => plan(threeNodes(['inet']), CAPABILITIES);
  const of = (key: string) => objects().get(key)!;
  const refusalOf = async (kernel: ModelKernel, op: Op) => (await kernel.apply([op])).failed[0]?.error.message;

  it('rejects what the kernel rejects, with its errors', async () => {
    const kernel = createModelKernel({ objects: objects().values() });
    const twice = of('address mesh-lb host0 10.252.1.2/32');
    expect(await refusalOf(kernel, { verb: 'create', object: twice })).toBe(
      'ip -n mesh-lb addr add 10.252.1.2/32 dev host0: EEXIST',
    );
    expect(await refusalOf(kernel, { verb: 'delete', object: of('ipset host mesh-pub-tcp') })).toMatch(/EBUSY$/);
    const vxlan = of('link mesh-net-ingress vxlan0');
    const moved = { ...vxlan, vni: 5 } as KernelObject;
    expect(await refusalOf(kernel, { verb: 'change', object: moved, before: vxlan })).toMatch(/EOPNOTSUPP$/);
    const nowhere: Op = { verb: 'create', object: { kind: 'netns', netns: 'mesh-task-b', loopbackUp: true } };
    expect(await refusalOf(kernel, nowhere)).toBeUndefined();
    const gateway: KernelObject = {
      ...(of('route mesh-task-aaaaaaaaaaaa 254 169.254.1.1/32') as object as KernelObject),
      netns: 'mesh-task-b',
    } as KernelObject;
    expect(await refusalOf(kernel, { verb: 'create', object: gateway })).toMatch(/ENOENT$/);
  });

  it('removes dependent objects together with their parent', async () => {
    const kernel = createModelKernel({ objects: objects().values() });
    expect(kernel.changeExternally({ verb: 'delete', object: of('link mesh-net-ingress vxlan0') })).toBeUndefined();
    const left = [...kernel.state().values()];
    expect(
      left.filter((object) => 'dev' in object && object.dev === 'vxlan0' && object.netns === 'mesh-net-ingress'),
    ).toEqual([]);
    expect(left.some((object) => object.kind === 'rule')).toBe(true);
    expect(kernel.changeExternally({ verb: 'delete', object: of('netns mesh-task-aaaaaaaaaaaa') })).toBeUndefined();
    expect(kernel.state().has('link mesh-net-ingress t-aaaaaaaaaaaa')).toBe(false);
  });

  it('reports links and routes to watchers, never IPVS and sets', async () => {
    const kernel = createModelKernel({ objects: objects().values() });
    const seen: unknown[] = [];
    const stop = kernel.watch((scope) => seen.push(scope));
    kernel.changeExternally({ verb: 'delete', object: of('virtual-service mesh-lb inet 73616') });
    kernel.changeExternally({ verb: 'delete', object: of('set-member host mesh-pub-tcp 8080') });
    kernel.changeExternally({ verb: 'delete', object: of('link mesh-net-ingress vxlan0') });
    await Promise.resolve();
    expect(seen).toEqual([{ netns: ['mesh-net-ingress'], kinds: ['vxlan'] }]);
    kernel.setFaults({ seed: 1, loseEvent: 1 });
    kernel.changeExternally({ verb: 'delete', object: of('link host mesh0') });
    stop();
    await Promise.resolve();
    expect(seen).toHaveLength(1);
  });

  it('throws when an operation would change a foreign object', async () => {
    const kernel = createModelKernel({ objects: objects().values(), foreign: FOREIGN });
    await expect(kernel.apply([{ verb: 'delete', object: FOREIGN[0]! }])).rejects.toThrow(/foreign/);
  });

  it('executes a script of own and foreign changes', async () => {
    const kernel = createModelKernel({ objects: objects().values() });
    const member = of('set-member host mesh-pub-tcp 8080');
    const outcomes = await playScript(kernel, (op) => void kernel.changeExternally(op), [
      { corrupt: { verb: 'delete', object: member } },
      { verb: 'delete', object: member },
      { verb: 'create', object: member },
    ]);
    expect(outcomes).toEqual(['corrupted', 'failed', 'done']);
  });
});

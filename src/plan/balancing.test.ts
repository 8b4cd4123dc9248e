import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diff } from '../diff/diff.ts';
import type { AssignedPort, Endpoint } from '../model/assignment.ts';
import { assignmentDelta } from '../model/assignment-delta.ts';
import { stateOf } from '../model/kernel-state.ts';
import { keyedAssignment } from '../model/keyed-assignment.ts';
import type { RealServer } from '../model/kinds/real-server.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import type { VirtualService } from '../model/kinds/virtual-service.ts';
import { renderOp } from '../model/render.ts';
import { SCHEDULERS } from '../model/spec.ts';
import { CAPABILITIES, emptyAssignment, endpoint, port } from './assignments.test-data.ts';
import { plan, planDelta } from './plan.ts';
import { fallbackConditions, flagsOf, schedulerOf } from './scheduler.ts';

const withPorts = (...ports: AssignedPort[]) => ({ ...emptyAssignment(1, ['inet']), ports });
const here = endpoint(1, 1, 'inet', 80);
const there = endpoint(2, 1, 'inet', 80);
const both = [here, there];

function service(fields: Partial<AssignedPort>, schedulers: readonly string[] = SCHEDULERS): VirtualService {
  const objects = plan(withPorts({ ...port('tcp', 80, both), ...fields }), { ...CAPABILITIES, schedulers });
  return [...objects.values()].find((object) => object.kind === 'virtual-service')!;
}

function weights(fields: Partial<AssignedPort>, endpoints: Endpoint[] = both): number[] {
  const objects = plan(withPorts({ ...port('tcp', 80, endpoints), ...fields }), CAPABILITIES).values();
  return [...objects]
    .filter((object): object is RealServer => object.kind === 'real-server')
    .map(({ weight }) => weight);
}

describe('the scheduler of a port', () => {
  it('is the declared one, its fallback, or rr', () => {
    const declared = { scheduler: 'mh', fallback: 'wlc' };
    expect(schedulerOf(declared, SCHEDULERS)).toBe('mh');
    expect(schedulerOf(declared, ['rr', 'wlc'])).toBe('wlc');
    expect(schedulerOf(declared, ['rr'])).toBe('rr');
    expect(schedulerOf({ scheduler: 'mh' }, ['rr', 'wlc'])).toBe('rr');
  });

  it('sends new clients of a draining task to another one, and gets only flags it supports', () => {
    expect(flagsOf('sh')).toEqual({ flags: ['sh-fallback'] });
    expect(flagsOf('mh', ['mh-port'])).toEqual({ flags: ['mh-fallback', 'mh-port'] });
    expect(flagsOf('rr', ['mh-port'])).toEqual({});
    expect(service({ scheduler: 'mh', schedulerFlags: ['mh-port'] }, ['rr'])).toEqual({
      kind: 'virtual-service',
      netns: 'mesh-lb',
      family: 'inet',
      fwmark: 0x10050,
      scheduler: 'rr',
    });
  });

  it('is reported for ports where it differs from the declared one', () => {
    const ports = [{ ...port('tcp', 80, []), scheduler: 'mh', fallback: 'wlc' }, port('udp', 53, [])];
    expect(fallbackConditions(ports, SCHEDULERS)).toEqual([]);
    expect(fallbackConditions(ports, ['rr', 'wlc'])).toEqual([
      {
        protocol: 'tcp',
        published: 80,
        kind: 'fallback',
        message: expect.stringMatching(/^the kernel has no scheduler mh, wlc balances here\. Try `modprobe ip_vs_mh`/),
      },
    ]);
  });
});

describe('a port in IPVS', () => {
  it('has its affinity timeout in seconds, with the prefix length of its family', () => {
    const persistence = { timeout: 90_500, prefix: { inet: 24, inet6: 64 } };
    expect(service({ persistence }).persistence).toEqual({ timeout: 91, prefix: 24 });
    // Found by mark, it would have no port mapping.
    expect(service({ persistence }).at).toBe('10.252.1.2');
    expect(service({})).not.toHaveProperty('at');
  });

  it('orders its real servers by the time they joined if the scheduler hashes; otherwise the order is unspecified', () => {
    expect(service({ scheduler: 'mh', endpoints: [there, here] }).servers).toEqual(['10.252.2.5 80', '10.252.1.5 80']);
    expect(service({ scheduler: 'rr' })).not.toHaveProperty('servers');
  });

  it('has weights up to 65535', () => {
    expect(
      weights({}, [
        { ...here, weight: 65_535 },
        { ...there, weight: 3 },
      ]),
    ).toEqual([65_535, 3]);
  });

  it('scales weights to the 256 buckets of sh, in proportion, with at least one for each task', () => {
    const heavy = [{ ...here, weight: 300 }, { ...there, weight: 100 }, endpoint(3, 1, 'inet', 80, 1)];
    expect(weights({ scheduler: 'sh' }, heavy)).toEqual([191, 63, 1]);
    expect(weights({ scheduler: 'sh' }, [{ ...here, weight: 200 }, there])).toEqual([200, 1]);
    expect(weights({ scheduler: 'mh' }, heavy)).toEqual([300, 100, 1]);
  });
});

describe('a traffic policy', () => {
  it('cluster: every task', () => expect(weights({})).toEqual([1, 1]));

  it('prefer-local: tasks of the node while one of them accepts connections', () => {
    expect(weights({ policy: 'prefer-local' })).toEqual([1, 0]);
    expect(weights({ policy: 'prefer-local' }, [{ ...here, weight: 0 }, there])).toEqual([0, 1]);
    expect(weights({ policy: 'prefer-local' }, [there])).toEqual([1]);
  });

  it('local: tasks of the node only; UDP keeps no real server with weight 0', () => {
    expect(weights({ policy: 'local' })).toEqual([1, 0]);
    expect(weights({ policy: 'local' }, [there])).toEqual([0]);
    expect(weights({ policy: 'local', protocol: 'udp' })).toEqual([1]);
  });

  it('changes weights only: no real server is removed', () => {
    const before = withPorts(port('tcp', 80, both));
    const after = withPorts({ ...port('tcp', 80, both), policy: 'local' });
    expect(diff(plan(before, CAPABILITIES), plan(after, CAPABILITIES)).flatMap(renderOp)).toEqual([
      'ip netns exec mesh-lb ipvsadm -e -f 65616 -r 10.252.2.5:80 -m -w 0',
    ]);
  });
});

describe('idle timeouts', () => {
  const idle = (protocol: 'tcp' | 'udp', published: number, seconds?: number): AssignedPort => ({
    ...port(protocol, published, []),
    ...(seconds === undefined ? {} : { idleTimeout: seconds * 1_000 }),
  });
  const clocks = (...ports: AssignedPort[]) => {
    const state = plan(withPorts(...ports), CAPABILITIES);
    const { tcp, udp } = state.get('ipvs-timeouts mesh-lb') as KernelObject & { kind: 'ipvs-timeouts' };
    const conntrack = ['tcp_timeout_established', 'udp_timeout', 'udp_timeout_stream'].map((name) => {
      const setting = state.get(`sysctl mesh-net-ingress net.netfilter.nf_conntrack_${name}`);
      return setting?.kind === 'sysctl' ? Number(setting.value) : undefined;
    });
    return { tcp, udp, conntrack };
  };

  it('are the longest of a protocol, where a port without one counts with the default', () => {
    expect(clocks()).toMatchObject({ tcp: 10_800, udp: 120 });
    expect(clocks(idle('tcp', 1, 60))).toMatchObject({ tcp: 60, udp: 120 });
    expect(clocks(idle('tcp', 1, 60), idle('tcp', 2, 90), idle('udp', 3, 5))).toMatchObject({ tcp: 90, udp: 5 });
    expect(clocks(idle('tcp', 1, 60), idle('tcp', 2))).toMatchObject({ tcp: 10_800 });
    expect(clocks(idle('tcp', 1, 1e9))).toMatchObject({ tcp: 2_147_483 });
  });

  it('never exceed the time the router remembers a flow', () => {
    expect(clocks().conntrack).toEqual([432_000, 30, 120]);
    expect(clocks(idle('tcp', 1, 900_000), idle('udp', 2, 600)).conntrack).toEqual([900_000, 600, 600]);
    expect(clocks(idle('tcp', 1, 1), idle('udp', 2, 1)).conntrack).toEqual([432_000, 30, 120]);
  });

  it('follow a change of ports, and stay as they are if it does not affect the longest', () => {
    const change = (before: AssignedPort[], after: AssignedPort[]) => {
      const old = withPorts(...before);
      const delta = assignmentDelta(old, { ...withPorts(...after), revision: 2 })!;
      const { have, want } = planDelta(keyedAssignment(old), delta, CAPABILITIES);
      return diff(stateOf(have), stateOf(want))
        .flatMap(renderOp)
        .filter((line) => /--set|conntrack/.test(line));
    };
    expect(change([idle('tcp', 1)], [idle('tcp', 1, 60)])).toEqual(['ip netns exec mesh-lb ipvsadm --set 60 120 120']);
    expect(change([idle('tcp', 1, 60)], [])).toEqual(['ip netns exec mesh-lb ipvsadm --set 10800 120 120']);
    expect(change([idle('tcp', 1), idle('tcp', 2, 60)], [idle('tcp', 1)])).toEqual([]);
    expect(change([], [idle('udp', 1, 600)])).toEqual([
      'ip netns exec mesh-lb ipvsadm --set 10800 120 600',
      'ip netns exec mesh-net-ingress sysctl -qw net.netfilter.nf_conntrack_udp_timeout=600',
      'ip netns exec mesh-net-ingress sysctl -qw net.netfilter.nf_conntrack_udp_timeout_stream=600',
    ]);
  });
});

describe('the order of real servers', () => {
  const hashed = (endpoints: Endpoint[], scheduler = 'mh') =>
    plan(withPorts({ ...port('tcp', 80, endpoints), scheduler }), CAPABILITIES);
  const at = (slot: number) => endpoint(2, slot, 'inet', 80);
  const words = (before: ReadonlyMap<string, KernelObject>, after: ReadonlyMap<string, KernelObject>) =>
    diff(before, after)
      .flatMap(renderOp)
      .map((line) => line.replace(/.*ipvsadm -(\w) .*?(?:-r 10\.252\.2\.(\d+):80.*|-s (\w+).*)$/, '$1 $2$3'));

  it('is by the time they joined when they are created, not by address', () => {
    expect(words(new Map(), hashed([at(9), at(3), at(12)])).filter((line) => line.startsWith('a '))).toEqual([
      'a 13',
      'a 7',
      'a 16',
    ]);
  });

  it('needs no extra steps when real servers are added last or removed anywhere', () => {
    expect(words(hashed([at(9), at(3)]), hashed([at(3), at(1)]))).toEqual(['a 5', 'd 13']);
  });

  it('removes and adds again only those that are ahead of their place', () => {
    expect(words(hashed([at(1), at(2), at(3), at(4)]), hashed([at(1), at(3), at(2), at(4)]))).toEqual([
      'd 6',
      'a 6',
      'd 8',
      'a 8',
    ]);
    // The oldest was removed by hand: it is added, then the others move behind it.
    expect(words(hashed([at(2), at(3)]), hashed([at(1), at(2), at(3)]))).toEqual(['a 5', 'd 6', 'a 6', 'd 7', 'a 7']);
  });

  it('is established when a hashing scheduler replaces another; others have none', () => {
    const two = [at(2), at(1)];
    expect(words(hashed(two, 'rr'), hashed(two))).toEqual(['E mh', 'd 6', 'a 6', 'd 5', 'a 5']);
    expect(words(hashed(two), hashed(two, 'rr'))).toEqual(['E rr']);
    expect(words(hashed(two, 'rr'), hashed([at(1), at(2)], 'rr'))).toEqual([]);
  });

  it('is reached from any other order by at most one move each', () => {
    const slots = fc.shuffledSubarray([1, 2, 3, 4, 5, 6]);
    fc.assert(
      fc.property(slots, slots, (before, after) => {
        const [have, want] = [hashed(before.map(at)), hashed(after.map(at))];
        const list = before.map((slot) => `${slot + 4}`);
        for (const line of words(have, want)) {
          const [verb, server] = line.split(' ') as [string, string];
          if (verb === 'd') list.splice(list.indexOf(server), 1);
          else if (verb === 'a') list.push(server);
        }
        expect(list).toEqual(after.map((slot) => `${slot + 4}`));
      }),
    );
  });
});

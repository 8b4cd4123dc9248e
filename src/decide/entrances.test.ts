import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Service } from '../model/cluster.ts';
import type { PortSpec } from '../model/spec.ts';
import { service } from './cluster.test-data.ts';
import { entrancePort, entrancesOf, redirectsOf, storedEntrances } from './entrances.ts';

const tcp = (published: number | undefined, target: number, mode: PortSpec['mode'] = 'ingress'): PortSpec => ({
  protocol: 'tcp',
  target,
  mode,
  ...(published === undefined ? {} : { published }),
});

const withPorts = (ports: PortSpec[], leaving: PortSpec[] = []): Service => ({
  ...service({ ports }),
  leaving: leaving.map((port) => ({ port, revision: 0, deadline: 0 })),
});
const entrancePorts = (one: Service) => {
  const entrances = entrancesOf(one);
  return [...one.spec.ports, ...(one.leaving ?? []).map(({ port }) => port)].map((port) =>
    entrancePort(entrances, port),
  );
};
const portsOf = (ports: PortSpec[], leaving: PortSpec[] = []) => {
  const one = withPorts(ports, leaving);
  return [entrancePorts(one), redirectsOf(one)];
};
/** The service after a change of its ports, as it is stored. */
const changed = (before: Service, ports: PortSpec[], leaving: PortSpec[] = []): Service => {
  const after = withPorts(ports, leaving);
  const entrances = storedEntrances(after, before);
  return { ...after, ...(entrances === undefined ? {} : { entrances }) };
};

it('different targets are reached directly', () => {
  expect(portsOf([tcp(80, 80), tcp(443, 443), { ...tcp(80, 80), protocol: 'udp' }])).toEqual([[80, 443, 80], []]);
});

it('a second published port of a target leads to a port that is redirected', () => {
  expect(portsOf([tcp(8080, 80), tcp(8081, 80)])).toEqual([[80, 8081], [{ protocol: 'tcp', from: 8081, to: 80 }]]);
  // In host mode too, and while the first one drains.
  expect(portsOf([tcp(8080, 80), tcp(undefined, 80, 'host')])[0]).toEqual([80, 65_535]);
  expect(portsOf([tcp(8081, 80)], [tcp(8080, 80)])[0]).toEqual([8081, 80]);
});

it('no redirected port is a target', () => {
  const ports = [tcp(80, 8080), tcp(81, 8080), tcp(8081, 81), tcp(82, 65_535)];
  expect(portsOf(ports)[0]).toEqual([8080, 65_534, 81, 65_535]);
});

it('keeps protocols apart, SCTP too', () => {
  const sctp = (published: number): PortSpec => ({ ...tcp(published, 80), protocol: 'sctp' });
  expect(portsOf([sctp(1), sctp(2), tcp(1, 80)])).toEqual([[80, 2, 80], [{ protocol: 'sctp', from: 2, to: 80 }]]);
});

it('a port keeps its entrance when others are removed, added, or drain', () => {
  const both = changed(withPorts([tcp(8080, 80)]), [tcp(8080, 80), tcp(8081, 80)]);
  expect(entrancePorts(both)).toEqual([80, 8081]);
  const draining = changed(both, [tcp(8081, 80)], [tcp(8080, 80)]);
  expect(entrancePorts(draining)).toEqual([8081, 80]);
  const second = changed(draining, [tcp(8081, 80)]);
  expect(entrancePorts(second)).toEqual([8081]);
  // The target is free for a new one, and then for no other.
  const third = changed(second, [tcp(8079, 80), tcp(8081, 80)]);
  expect(entrancePorts(third)).toEqual([80, 8081]);
  expect(entrancePorts(changed(third, [tcp(8078, 80), tcp(8079, 80), tcp(8081, 80)]))).toEqual([8078, 80, 8081]);
  // A lower number does not displace the only one.
  expect(entrancePorts(changed(withPorts([tcp(8081, 80)]), [tcp(8080, 80), tcp(8081, 80)]))).toEqual([8080, 80]);
});

it('a target that became the entrance of another port is reached by another entrance itself', () => {
  const both = changed(withPorts([tcp(8080, 80)]), [tcp(8080, 80), tcp(8081, 80)]);
  const more = changed(both, [tcp(8080, 80), tcp(8081, 80), tcp(9000, 8081)]);
  expect(entrancePorts(more)).toEqual([80, 8081, 9000]);
  expect(redirectsOf(more)).toContainEqual({ protocol: 'tcp', from: 9000, to: 8081 });
});

it('a number with a new target does not change the connections that drain with the old one', () => {
  const before = changed(withPorts([tcp(8079, 80)]), [tcp(8079, 80), tcp(8080, 80)]);
  const after = changed(before, [tcp(8079, 80), tcp(8080, 81)], [tcp(8080, 80)]);
  expect(entrancePorts(after)).toEqual([80, 81, 8080]);
  expect(redirectsOf(after)).toEqual([{ protocol: 'tcp', from: 8080, to: 80 }]);
});

it('any two published ports of a protocol lead to different ports of a task, each to its target, after any changes', () => {
  const port = fc.record({
    protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const),
    published: fc.integer({ min: 1, max: 12 }),
    target: fc.integer({ min: 1, max: 12 }),
    mode: fc.constant('ingress' as const),
  });
  const ports = fc.uniqueArray(port, { maxLength: 10, selector: (each) => `${each.protocol}/${each.published}` });
  fc.assert(
    fc.property(fc.array(ports, { minLength: 1, maxLength: 4 }), (lists) => {
      let current = withPorts([]);
      for (const list of lists) {
        const before = current;
        current = changed(before, list);
        const entrances = entrancesOf(current);
        const redirects = redirectsOf(current);
        const reached = list.map((each) => ({ ...each, at: entrancePort(entrances, each) }));
        expect(new Set(reached.map(({ protocol, at }) => `${protocol}/${at}`)).size).toBe(list.length);
        for (const { protocol, published, at, target } of reached) {
          const redirect = redirects.find((one) => one.protocol === protocol && one.from === at);
          expect(redirect?.to ?? at).toBe(target);
          const earlier = before.spec.ports.find(
            (one) => one.protocol === protocol && one.published === published && one.target === target,
          );
          if (earlier !== undefined) expect(at).toBe(entrancePort(entrancesOf(before), earlier));
        }
      }
    }),
  );
});

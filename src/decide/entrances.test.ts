import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { PortSpec } from '../model/spec.ts';
import { service } from './cluster.test-data.ts';
import { entrancePort, entrancesOf, redirectsOf } from './entrances.ts';

const tcp = (published: number | undefined, target: number, mode: PortSpec['mode'] = 'ingress'): PortSpec => ({
  protocol: 'tcp',
  target,
  mode,
  ...(published === undefined ? {} : { published }),
});

const portsOf = (ports: PortSpec[], leaving: PortSpec[] = []) => {
  const one = { ...service({ ports }), leaving: leaving.map((port) => ({ port, revision: 0, deadline: 0 })) };
  const entrances = entrancesOf(one);
  return [[...ports, ...leaving].map((port) => entrancePort(entrances, port)), redirectsOf(one)];
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

it('leaves SCTP alone', () => {
  const sctp = (published: number): PortSpec => ({ ...tcp(published, 80), protocol: 'sctp' });
  expect(portsOf([sctp(1), sctp(2)])).toEqual([[80, 80], []]);
});

it('any two published ports of a protocol lead to different ports of a task, and each to its target', () => {
  const port = fc.record({
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    published: fc.integer({ min: 1, max: 12 }),
    target: fc.integer({ min: 1, max: 12 }),
    mode: fc.constant('ingress' as const),
  });
  const ports = fc.uniqueArray(port, { maxLength: 10, selector: (each) => `${each.protocol}/${each.published}` });
  fc.assert(
    fc.property(ports, (list) => {
      const spec = { ...service({ ports: list }), leaving: [] };
      const entrances = entrancesOf(spec);
      const redirects = redirectsOf(spec);
      const reached = list.map((each) => ({ ...each, at: entrancePort(entrances, each) }));
      expect(new Set(reached.map(({ protocol, at }) => `${protocol}/${at}`)).size).toBe(list.length);
      for (const { protocol, at, target } of reached) {
        const redirect = redirects.find((one) => one.protocol === protocol && one.from === at);
        expect(redirect?.to ?? at).toBe(target);
      }
    }),
  );
});

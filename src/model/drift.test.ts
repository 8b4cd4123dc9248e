import { describe, expect, it } from 'vitest';
import { describeDrift } from './drift.ts';
import { parseFirewallRule } from './kinds/parse-firewall-rule.ts';
import type { RealServer } from './kinds/real-server.ts';
import type { KernelObject } from './kinds/registry.ts';

const server: RealServer = {
  kind: 'real-server',
  netns: 'mesh-lb',
  family: 'inet',
  fwmark: 73616,
  address: '10.252.1.5',
  port: 80,
  weight: 1,
};
const end = { netns: 'mesh-lb', name: 'host0', mtu: 1500, up: true };
const pair: KernelObject = { kind: 'veth', netns: 'host', name: 'mesh0', mtu: 1500, up: true, peer: end };
const chain = (...rules: string[]): KernelObject => ({
  kind: 'chain',
  netns: 'host',
  family: 'inet',
  table: 'nat',
  chain: 'MESH-PRE',
  rules: rules.map(parseFirewallRule),
});

describe('describeDrift', () => {
  it('names missing and unexpected objects', () => {
    expect(describeDrift([{ verb: 'create', object: server }])).toEqual([
      'real-server mesh-lb inet 73616 10.252.1.5 80: missing',
    ]);
    expect(describeDrift([{ verb: 'delete', object: server }])).toEqual([
      'real-server mesh-lb inet 73616 10.252.1.5 80: unexpected',
    ]);
  });

  it('names the fields that differ, observed value first, at any depth', () => {
    expect(describeDrift([{ verb: 'change', object: server, before: { ...server, weight: 0 } }])).toEqual([
      'real-server mesh-lb inet 73616 10.252.1.5 80: weight 0 → 1',
    ]);
    const before: KernelObject = { ...pair, up: false, peer: { ...end, mtu: 1400 } };
    expect(describeDrift([{ verb: 'change', object: pair, before }])).toEqual([
      'link host mesh0: up false → true, peer.mtu 1400 → 1500',
    ]);
  });

  it('reports a replacement once, with the difference', () => {
    const before: KernelObject = { ...pair, peer: { ...end, name: 'other' } };
    expect(
      describeDrift([
        { verb: 'delete', object: before },
        { verb: 'create', object: pair },
      ]),
    ).toEqual(['link host mesh0: peer.name other → host0']);
    expect(
      describeDrift([
        { verb: 'delete', object: server },
        { verb: 'create', object: server },
      ]),
    ).toEqual(['real-server mesh-lb inet 73616 10.252.1.5 80: in the wrong place']);
  });

  it('names rules that are too many, too few, or out of order', () => {
    const driftOf = (have: KernelObject, want: KernelObject) =>
      describeDrift([{ verb: 'change', object: want, before: have }])[0];
    expect(driftOf(chain('-j A', '-j C'), chain('-j A', '-j B'))).toBe(
      'chain host inet nat MESH-PRE: rules: has "-j C", lacks "-j B"',
    );
    expect(driftOf(chain('-j A', '-j A'), chain('-j A'))).toContain('in another order, or doubled');
  });
});
